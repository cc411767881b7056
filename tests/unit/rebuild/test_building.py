"""A rebuild is a member of its group like a worker, with a name that it may not take from another."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.adapters.memory import MemoryGroupConsumer, MemoryKafka
from pipeline.engine.loop.identity import Identity
from pipeline.errors import FoldError, NameTaken
from pipeline.rebuild import building
from tests.unit.engine.test_slow_lane import joined


def test_a_rebuild_whose_name_another_home_has_is_refused_before_it_fences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = MemoryKafka()
    joined(kafka, Identity("tills-node-0", 80, "elsewhere"))
    opened: list[str] = []
    monkeypatch.setattr(
        building, "KafkaGroupConsumer", lambda _, group, name, *__: MemoryGroupConsumer(kafka, group, name)
    )
    monkeypatch.setattr(building, "KafkaProducer", lambda _, name: opened.append(name))
    monkeypatch.setattr(building, "MachineClock", lambda: kafka.clock)
    monkeypatch.setattr(building.time, "sleep", kafka.clock.advance)
    plan = SimpleNamespace(group="tills", source_topics=("tills.event",))
    subject: Any = SimpleNamespace(plan=plan, service=SimpleNamespace(name="tills"), make=None)
    with pytest.raises(NameTaken, match="--node"):
        building.build("nowhere", subject, tmp_path / "state", "node", None, lambda *_: None)  # type: ignore[arg-type]
    assert not opened


def test_a_rebuild_by_workers_ends_if_its_service_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    progress: Any = SimpleNamespace(level=False, look=lambda: looks.append("look"), done=1, total=2)
    monkeypatch.setattr(building.time, "sleep", lambda _: None)
    with pytest.raises(FoldError, match="pipeline resume"):
        building.watch(
            progress, lambda: True, lambda *_: None, lambda: "held: pipeline resume" if len(looks) > 2 else ""
        )
