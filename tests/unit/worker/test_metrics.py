"""What /metrics exposes: each HELP text is read alone, and the docs name metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.engine.stats import LaneStats, Wipe
from pipeline.worker.metrics import LaneCollector

ROOT = Path(__file__).parents[3]
POINTING = re.compile(r"\b(these|those|this|such)\b", re.IGNORECASE)


def exposed() -> dict[str, str]:
    """Name -> HELP of each metric of a lane."""
    stats = LaneStats()
    stats.reject("users", "taken")
    stats.leave_out("revenue")
    stats.wipe(Wipe.DAMAGED)
    return {metric.name: metric.documentation for metric in LaneCollector({"users": stats}).collect()}


def test_a_help_text_speaks_for_itself() -> None:
    texts = exposed()
    assert len(set(texts.values())) == len(texts)
    for name, text in texts.items():
        assert text[0].isupper(), f"{name}: {text}"
        assert not POINTING.search(text), f"{name}: {text}"


def test_the_docs_name_metrics_that_exist() -> None:
    source = "\n".join(path.read_text() for path in ROOT.glob("pipeline/**/*.py"))
    for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")):
        for name in re.findall(r"`(pipeline_\w+)", page.read_text()):
            bare = name.removesuffix("_total")
            assert bare in exposed() or f'"{bare}"' in source, f"{page.name}: {name}"
