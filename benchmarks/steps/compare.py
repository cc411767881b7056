"""Step costs now beside those on record: `python -m benchmarks.steps.compare`, or `make bench-smoke`.

For information only. It compares by the ratio to a baseline of plain Python that is measured in between, and still a
step may come out a third dearer on a busy machine. Exit code 0 whatever it finds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchmarks.environment import local_broker
from benchmarks.report import machine, show
from benchmarks.steps.step_costs import Step, measure
from pipeline.worker.main import tune_gc

RECORD = Path(__file__).with_name("steps.json")
WORTH_A_LOOK = 1.5  # times what is on record


def compared(steps: list[Step], record: dict[str, float]) -> list[dict[str, Any]]:
    """A row for each step, with the ratio on record and how many times that it is now."""
    rows = []
    for step in steps:
        known = record.get(step.name)
        times = step.ratio / known if known else 1.0
        remark = "look at this" if times > WORTH_A_LOOK else "" if known else "not on record"
        row = {"step": step.name, "us a command": step.us, "x baseline": step.ratio}
        rows.append({**row, "on record": known or 0.0, "times": times, "remark": remark})
    return rows


@click.command()
@click.option("--bootstrap", help="A broker; without it one is started for the run.")
@click.option("--count", default=60_000, show_default=True, help="Commands that the whole lane is run on.")
@click.option("--record", is_flag=True, help="Put what is measured on record.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def main(bootstrap: str | None, count: int, record: bool, as_json: bool) -> None:
    """Measure what each step of the engine costs, in microseconds of processor time a command."""
    tune_gc()
    about = machine()
    with local_broker(bootstrap) as address:
        steps = measure(address, count)
    ratios = {step.name: round(step.ratio, 2) for step in steps}
    if record:
        RECORD.write_text(json.dumps({"machine": about, "ratios": ratios}, indent=1) + "\n")
    if as_json:
        click.echo(json.dumps({"machine": about, "steps": [step._asdict() for step in steps]}))
    else:
        known = json.loads(RECORD.read_text())["ratios"] if RECORD.exists() else {}
        show(f"What a command costs, step by step (load {about['load']})", compared(steps, known))


if __name__ == "__main__":
    main()
