"""How much memory a worker takes that finds a long backlog: `python -m tests.faults.runs.backlog`, or `make backlog`.

Fills a command topic, starts one worker on it, and watches its resident memory until the backlog is folded.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

from confluent_kafka import Producer
from rich.console import Console
from rich.progress import track

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import end_offsets
from pipeline.engine.ports import TP
from pipeline.model import CommandMessage
from tests.helpers.support import Worker, shop_of_its_own, until
from topologies.users import Command, RegisterUser

PATIENCE_S = 3600.0
LOOK_S = 1.0


def resident_mb(worker: Worker, field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of a worker's process."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(re.findall(rf"{field}:\s+(\d+) kB", status)[0]) / 1024


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--commands", type=int, default=10_000_000)
    asked.add_argument("--keys", type=int, default=1_000_000)
    options = asked.parse_args()
    console = Console()
    with shop_of_its_own("backlog-", console.print) as shop:
        encode = codecs(shop.topology.schemas)("users.command", CommandMessage, Command).encode
        command = encode(CommandMessage("backlog", "backlog", None, 0, RegisterUser("a name", "France")))
        producer = Producer({"bootstrap.servers": shop.bootstrap, "partitioner": "murmur2_random", "linger.ms": 20})
        for n in track(range(options.commands), "commands", console=console):
            while True:
                try:
                    producer.produce("users.command", command, f"u{n % options.keys}")
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush()
        worker = shop.worker("--service", "users")
        samples = []
        with shop.watcher() as watcher:
            started = time.monotonic()
            ends = sum(end_offsets(shop.admin, [TP("users.command", n) for n in range(4)]).values())

            def folded() -> bool:
                time.sleep(LOOK_S)
                samples.append(resident_mb(worker, "VmRSS"))
                return watcher.look()[0]["users"].committed >= ends

            until("the backlog is folded", folded, PATIENCE_S)
            seconds = time.monotonic() - started
        steps = [f"{samples[n * (len(samples) - 1) // 4]:.0f}" for n in range(5)]
        console.print(
            f"{options.commands:,} commands on {options.keys:,} keys folded in {seconds:.0f} s, start included"
        )
        console.print(f"resident memory, MB: {', '.join(steps)}; peak {resident_mb(worker, 'VmHWM'):.0f}")


if __name__ == "__main__":
    main()
