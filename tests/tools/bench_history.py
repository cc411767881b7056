"""What a history costs: `python -m tests.tools.bench_history [EVENTS]`."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.engine.copies.histories import SNAPSHOT_EVERY
from pipeline.engine.copies.history_follower import HistoryFollower
from pipeline.engine.ports import TP, LogFacts
from pipeline.engine.state.history_reader import HistorySpec
from pipeline.engine.stats import LaneStats
from pipeline.model import EventMessage, StateMessage
from pipeline.topology import load
from tests.unit.engine.test_recovery import Row
from topologies import inventory as inv

LOG, KEYS, BATCH, READS = TP("inventory.event", 0), 3_000, 2_000, 200


def main(count: int) -> None:
    make, rng = codecs(load("topologies").schemas), random.Random(1)
    events = make(LOG.topic, EventMessage, inv.inventory.event)
    spec = HistorySpec(
        inv.inventory, LOG.topic, events, make("inventory.state", StateMessage, inv.Stock), "inventory.state"
    )
    versions: dict[bytes, int] = {}
    records = []
    for n in range(count):
        key = b"%05d" % int(KEYS * rng.random() ** 2)  # some are asked for more than others
        versions[key] = version = versions.get(key, 0) + 1
        cause = f"stock_follows_orders/{n // 20}/1/{n % 20}", f"{rng.getrandbits(128):032x}"
        event = EventMessage(version, *cause, 1_259_625_600_000 + n, inv.StockTaken(str(n // 20), rng.randrange(30)))
        records.append(Row(n, key, events.encode(event)))
    with tempfile.TemporaryDirectory() as home:
        _, stores = claim_slot(Path(home), "inventory", 0)
        copy = HistoryFollower(spec, 0, stores.open("history"), LaneStats(), SNAPSHOT_EVERY)
        copy.begin(LogFacts(1, 1, 1), count)
        began_s = time.thread_time()
        for at in range(0, count, BATCH):
            copy.apply(LOG, records[at : at + BATCH])  # type: ignore[arg-type]
        took_s = time.thread_time() - began_s
        copy.flush()
        hot = max(versions, key=lambda key: versions[key])
        began_s = time.thread_time()
        for _ in range(READS):
            copy.past.state(hot, rng.randrange(versions[hot]))
        state_s = (time.thread_time() - began_s) / READS
        copy.store.close()
        size = sum(file.stat().st_size for file in Path(home).rglob("*.sst"))
    raw = sum(len(r.name) + len(r.data or b"") for r in records)
    print(
        f"{count:,} events of {len(versions):,} keys: {took_s / count * 1e6:.2f} us and {size / count:.0f} bytes each,"
    )
    print(f"of {raw / count:.0f} bytes; a state of {hot.decode()} ({versions[hot]:,} events): {state_s * 1e6:.0f} us")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 100_000)
