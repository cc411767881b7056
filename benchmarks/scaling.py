"""How the cost of a command grows: `python -m benchmarks.scaling --json scaling.json --plot docs/scaling.svg`.

Each setting is one run of the engine's lane on fresh topics, in processes of their own, over commands that are all
there before it begins; a baseline setting, changed in one respect at a time. Processor time is that of the whole
process, threads of the clients included.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from benchmarks.environment import Place, local_broker
from benchmarks.peers.commands import commands
from benchmarks.report import machine, show
from benchmarks.steps.baseline import baseline_us
from pipeline.worker.main import tune_gc

IDLE_S = 3.0  # without a command for so long, a lane that has had some is done
WARM = 0.1  # of the commands, before measuring begins
RUN_S = 400.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One run. `padding`: bytes that a command, its event and the state are longer; `zipf`: exponent, 0 for even."""

    commands: int = 100_000
    keys: int = 10_000
    padding: int = 0
    partitions: int = 4
    processes: int = 1
    zipf: float = 0.0


BASE = Setting()
SETTINGS: dict[str, list[Setting]] = {
    "keys": [replace(BASE, keys=100_000, commands=200_000), replace(BASE, keys=300_000, commands=400_000)],
    "padding": [
        replace(BASE, padding=500),
        replace(BASE, padding=2_000, commands=50_000),
        replace(BASE, padding=10_000, commands=20_000, keys=2_000),
    ],
    "partitions": [replace(BASE, partitions=n) for n in (1, 16, 64)],
    "processes": [replace(BASE, processes=2)],
    "zipf": [replace(BASE, zipf=1.0, keys=100_000)],
}


def peak_mb() -> float:
    """The most memory that this process has had resident, in MB. Of getrusage it might be its parent's."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def fold(bootstrap: str, group: str, slot: int, expected: int, state: Path) -> dict[str, Any]:
    """Runs a lane until nothing comes any more; what it took from the first tenth of its share on."""
    tune_gc()
    lane = Place(bootstrap, group=group).lane(state, slot)
    lane.open()
    samples: list[tuple[float, float, int]] = []
    last, quiet_s = 0, time.monotonic()
    while not last or time.monotonic() - quiet_s < IDLE_S:
        lane.turn()
        done = lane.stats.commands
        if done > last:
            last, quiet_s = done, time.monotonic()
            samples.append((quiet_s, time.process_time(), done))
    stats = lane.stats
    lane.close()
    begin = next(sample for sample in samples if sample[2] >= WARM * min(expected, last))
    folded = samples[-1][2] - begin[2]
    return {
        "commands": stats.commands,
        "folded": folded,
        "wall_s": samples[-1][0] - begin[0],
        "cpu_us": (samples[-1][1] - begin[1]) / max(1, folded) * 1e6,
        "rss_mb": peak_mb(),
        "baseline_us": min(baseline_us() for _ in range(20)),
    }


def run(bootstrap: str, setting: Setting) -> dict[str, Any]:
    """One setting: commands a second of all its processes together, and what a command took."""
    place = Place(bootstrap, setting.partitions)
    place.feed(commands(setting.commands, setting.keys, zipf=setting.zipf, padding=setting.padding))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as state:
        share = str(setting.commands // setting.processes)
        command = [sys.executable, "-m", "benchmarks.scaling", "--bootstrap", bootstrap]
        command += ["--group", place.group, "--expected", share, "--state", state]
        children = [
            subprocess.Popen([*command, "--slot", str(slot)], stdout=subprocess.PIPE, text=True)
            for slot in range(setting.processes)
        ]
        answers = [json.loads(child.communicate(timeout=RUN_S)[0]) for child in children]
    place.clear()
    folded = sum(answer["folded"] for answer in answers)
    assert sum(answer["commands"] for answer in answers) >= setting.commands, "not all commands were folded"
    return {
        "per_second": sum(answer["folded"] / max(answer["wall_s"], 1e-9) for answer in answers),
        "cpu_us": sum(answer["cpu_us"] * answer["folded"] for answer in answers) / folded,
        "rss_mb": max(answer["rss_mb"] for answer in answers),
        "baseline_us": min(answer["baseline_us"] for answer in answers),
    }


def rows(bootstrap: str, rounds: int) -> list[dict[str, Any]]:
    """All settings, in rounds, so that what else the machine does meets all of them; the best of each by cost."""
    chosen = [("base", BASE)] + [(name, setting) for name, each in SETTINGS.items() for setting in each]
    best: dict[int, dict[str, Any]] = {}
    for _ in range(rounds):
        for place, (name, setting) in enumerate(chosen):
            row = {"varied": name, **asdict(setting), **run(bootstrap, setting)}
            click.echo(f"{name}: {row['cpu_us']:.1f} us, {row['per_second']:,.0f}/s", err=True)
            if place not in best or row["cpu_us"] < best[place]["cpu_us"]:
                best[place] = row
    base = best[0]["cpu_us"]
    return [{**best[place], "x_base": best[place]["cpu_us"] / base} for place in range(len(chosen))]


def plot(measured: list[dict[str, Any]], path: Path) -> None:
    """Cost relative to the base setting, a panel for each respect; needs matplotlib (the extra `bench`)."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(10, 3), sharey=True, layout="constrained")
    for panel, name in zip(panels, ("keys", "padding", "partitions"), strict=True):
        points = sorted((row[name], row["x_base"]) for row in measured if row["varied"] in (name, "base"))
        panel.plot(range(len(points)), [y for _, y in points], marker="o")
        panel.set_xticks(range(len(points)), [f"{x:,}" for x, _ in points])
        panel.set_xlabel({"keys": "keys", "padding": "bytes more a command", "partitions": "partitions"}[name])
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("CPU a command, x base")
    figure.savefig(path)


@click.command()
@click.option("--bootstrap", help="A broker; without it one is started for the run.")
@click.option("--rounds", default=1, show_default=True, help="Runs of each setting; the best is kept.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Where to write the results.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="Where to draw them, as SVG.")
@click.option("--group", hidden=True)
@click.option("--slot", type=int, default=0, hidden=True)
@click.option("--expected", type=int, default=0, hidden=True)
@click.option("--state", type=click.Path(path_type=Path), hidden=True)
def main(
    bootstrap: str | None,
    rounds: int,
    path: Path | None,
    picture: Path | None,
    group: str | None,
    slot: int,
    expected: int,
    state: Path | None,
) -> None:
    """Measure how the cost of a command grows with keys, sizes, partitions, processes and skew."""
    if group and bootstrap and state:
        click.echo(json.dumps(fold(bootstrap, group, slot, expected, state)))
        return
    about = machine()
    with local_broker(bootstrap) as address:
        measured = rows(address, rounds)
    show(f"How the cost of a command grows (load {about['load']})", measured)
    if path is not None:
        path.write_text(json.dumps({"machine": about, "rows": measured}, indent=1) + "\n")
    if picture is not None:
        plot(measured, picture)


if __name__ == "__main__":
    main()
