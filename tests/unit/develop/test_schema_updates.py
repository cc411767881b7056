"""Schemas follow the classes while one writes them; what could not be read any more is refused before it is written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.adapters.avro.registry import Registry, Written
from pipeline.develop.schema_updates import SchemasRefused, committed, forget_uncommitted, update_schemas
from pipeline.topology import Topology, load
from tests.helpers.till import write_till

TOPICS = ["tills.command", "tills.event", "tills.state"]
FILES = (*(f"{topic}.avsc" for topic in TOPICS), "manifest.json")
Change = Callable[[str, str], Topology]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_till(tmp_path / "project")


@pytest.fixture
def change(file: Path) -> Iterator[Change]:
    """Replaces text in the service's file, and loads it."""

    def changed(before: str, after: str) -> Topology:
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))
        return load(str(file), file.parents[1] / "schemas")

    yield changed
    sys.modules.pop("tills", None)


def versions(topology: Topology) -> list[tuple[str, int]]:
    entries = json.loads((topology.schemas / "manifest.json").read_text())["schemas"]
    return [(entry["topic"], entry["id"]) for entry in entries]


def test_they_are_made_without_a_directory_and_a_second_look_changes_nothing(change: Change) -> None:
    topology = change("PutIn", "PutIn")
    first = update_schemas(topology, None)
    assert (first.wrote, first.registered, first.left) == (TOPICS, TOPICS, [])
    second = update_schemas(topology, ())
    assert (second.wrote, second.registered, second.left) == ([], [], [])


PROJECTION = """
from pipeline import Projection


@dataclass(frozen=True, slots=True)
class Turnover:
    amount: int = 0


turnover = Projection("turnover", [tills.events], Turnover(), lambda row, event: Turnover(row.amount + event.amount))
service = Service("tills", aggregates=[tills], projections=[turnover])
"""


def test_they_are_made_for_what_follows_its_own_events_too(change: Change) -> None:
    topology = change('service = Service("tills", aggregates=[tills])', PROJECTION)
    update = update_schemas(topology, None)
    assert (update.wrote, update.left) == ([*TOPICS, "turnover.row"], [])


def test_a_field_with_a_default_is_a_new_version(change: Change) -> None:
    first = update_schemas(change("PutIn", "PutIn"), None)
    topology = change("class Moved:\n    amount: int", 'class Moved:\n    amount: int\n    why: str = ""')
    update = update_schemas(topology, first.left)
    assert (update.wrote, update.registered) == (["tills.event"], ["tills.event"])
    assert [topic for topic, _ in versions(topology)] == sorted([*TOPICS, "tills.event"])


def test_a_field_that_may_have_another_name_now_is_asked_about(change: Change) -> None:
    amount = "class Moved:\n    amount: int"
    first = update_schemas(change(amount, f'{amount}\n    why: str = ""'), None)
    update = update_schemas(change('    why: str = ""', '    reason: str = ""'), first.left)
    (question,) = update.questions
    assert question.startswith("tills.event.avsc: Moved has lost why and has reason now. If that is the same field")
    assert question.endswith('reason: Annotated[…, Renamed("why")]')
    assert update_schemas(change('    reason: str = ""', "    code: int = 0"), first.left).questions == []
    change("from pipeline import Aggregate", "from typing import Annotated\n\nfrom pipeline import Renamed, Aggregate")
    told = change("    code: int = 0", '    number: Annotated[int, Renamed("code")] = 0')
    assert update_schemas(told, first.left).questions == []


def test_a_doc_that_has_changed_is_written_and_makes_no_version(change: Change) -> None:
    update_schemas(change("PutIn", "PutIn"), None)
    topology = change("class Moved:\n    amount: int", "class Moved:\n    amount: int  # out is negative")
    update = update_schemas(topology, None)
    assert (update.wrote, update.left) == (["tills.event"], [])
    assert "out is negative" in (topology.schemas / "tills.event.avsc").read_text()
    assert [topic for topic, _ in versions(topology)] == TOPICS


def test_what_breaks_the_reading_of_records_is_refused_and_nothing_is_written(change: Change) -> None:
    topology = change("PutIn", "PutIn")
    update_schemas(topology, None)
    before = {path.name: path.read_text() for path in topology.schemas.iterdir()}
    topology = change("class Moved:\n    amount: int", "class Moved:\n    amount: int\n    why: str")
    with pytest.raises(SchemasRefused) as refused:
        update_schemas(topology, ())
    assert "Moved.why: was absent; is string without a default" in str(refused.value)
    assert "cure: give why a default" in str(refused.value)
    assert not refused.value.committed
    assert {path.name: path.read_text() for path in topology.schemas.iterdir()} == before


def test_files_that_are_written_by_hand_and_fit_are_left(change: Change) -> None:
    topology = change("PutIn", "PutIn")
    update_schemas(topology, None)
    path = topology.schemas / "tills.event.avsc"
    fields = json.loads(path.read_text())
    moved = next(each["type"] for each in fields["fields"] if each["name"] == "body")
    moved["fields"][0]["type"] = "int"
    path.write_text(json.dumps(fields))
    (topology.schemas / "manifest.json").unlink()
    update = update_schemas(topology, None)
    assert (update.wrote, update.left) == ([], ["tills.event"])
    assert json.loads(path.read_text()) == fields
    assert update_schemas(topology, update.left).wrote == []


def test_a_start_afresh_forgets_what_git_has_no_commit_of(change: Change) -> None:
    topology = change("PutIn", "PutIn")
    update_schemas(topology, None)
    assert committed(topology.schemas) == set()
    git = ["git", "-C", str(topology.schemas.parent), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    first = versions(topology)
    assert committed(topology.schemas) == set(first)
    topology = change("class Till:\n    holds: int = 0", "class Till:\n    holds: int = 0\n    drawer: int = 1")
    update_schemas(topology, ())
    assert len(versions(topology)) == len(first) + 1
    assert forget_uncommitted(topology) == ["tills.state"]
    assert versions(topology) == first
    assert Registry(topology.schemas).is_changed("tills.state")
    topology = change("class Moved:\n    amount: int", "class Moved:\n    amount: int\n    why: str")
    with pytest.raises(SchemasRefused) as refused:
        update_schemas(topology, ())
    assert refused.value.committed


def test_a_start_afresh_without_git_forgets_all_and_then_all_may_change(change: Change) -> None:
    update_schemas(change("PutIn", "PutIn"), None)
    topology = change("class Moved:\n    amount: int", "class Moved:\n    amount: str")
    with pytest.raises(SchemasRefused):
        update_schemas(topology, ())
    assert forget_uncommitted(topology) == TOPICS
    assert update_schemas(topology, ()).registered == TOPICS


def published(topology: Topology) -> list[Written]:
    """What a worker with the present manifest has put on the broker."""
    return Registry(topology.schemas).versions(TOPICS)


@pytest.mark.parametrize("gone", [FILES, ["manifest.json"]])
def test_what_the_broker_has_stays_readable_though_the_files_are_gone(change: Change, gone: Sequence[str]) -> None:
    topology = change("PutIn", "PutIn")
    update_schemas(topology, None)
    there = published(topology)
    for name in gone:
        (topology.schemas / name).unlink()
    topology = change("class Moved:\n    amount: int", "class Moved:\n    amount: int\n    why: str")
    with pytest.raises(SchemasRefused) as refused:
        update_schemas(topology, None, there)
    assert "tills.event: records of version 1" in str(refused.value)
    assert "Moved.why: was absent; is string without a default" in str(refused.value)
    assert (refused.value.published, refused.value.committed) == (True, False)
    assert {path.name for path in topology.schemas.iterdir()} == {*FILES} - {*gone}
    topology = change("    why: str", '    why: str = "till"')
    assert update_schemas(topology, None, there).registered == TOPICS


def test_a_file_alone_that_is_gone_is_made_again_and_held_against_the_manifest(change: Change) -> None:
    topology = change("PutIn", "PutIn")
    update_schemas(topology, None)
    (topology.schemas / "tills.event.avsc").unlink()
    topology = change("class Moved:\n    amount: int", "class Moved:\n    amount: str")
    with pytest.raises(SchemasRefused) as refused:
        update_schemas(topology, None, published(topology))
    assert not refused.value.published
    topology = change("class Moved:\n    amount: str", "class Moved:\n    amount: int")
    assert update_schemas(topology, None, published(topology)).wrote == ["tills.event"]


def test_versions_of_a_branch_that_the_broker_alone_has_are_read_or_refused(change: Change) -> None:
    topology = change("PutIn", "PutIn")
    update_schemas(topology, None)
    first = (topology.schemas / "manifest.json").read_text()
    update_schemas(change("class Moved:\n    amount: int", 'class Moved:\n    amount: int\n    why: str = ""'), ())
    there = published(topology)
    (topology.schemas / "manifest.json").write_text(first)
    topology = change('    amount: int\n    why: str = ""', "    amount: int")
    assert update_schemas(topology, (), there).wrote == ["tills.event"], "what has a field more is read without it"
    others = [Written(each.id, "others.event", "string") for each in there]
    assert update_schemas(topology, (), others).wrote == []
    wrong = Written(7, "tills.state", {"type": "record", "name": "State", "fields": []})
    with pytest.raises(SchemasRefused, match=r"tills\.state: records of version 1 \(id 7\)"):
        update_schemas(topology, (), [wrong])
