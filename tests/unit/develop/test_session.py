"""Which saves start the services anew, and what is said of the others; a local Kafka that ends is started again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.broker import local
from pipeline.develop import session as sessions
from pipeline.develop.broker import TRIES, LocalBroker
from pipeline.develop.candidate import Order
from pipeline.develop.saves import Project
from pipeline.develop.schema_updates import schema_texts
from pipeline.develop.session import Session, Settings
from pipeline.errors import LocalBrokerError


class FakeServices:
    """A process of services that says what a test has it say."""

    says: Callable[[], dict[str, Any]]

    def __init__(self, order: Order, children: object) -> None:
        self.order, self.line = order, self

    def hear(self, _: float | None = None) -> dict[str, Any] | None:
        return type(self).says()

    def go(self) -> None: ...

    def ended(self) -> None: ...

    def stop(self) -> None: ...


class World:
    """A session of a project without processes."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.said, self.settings = root, list[str](), ""
        self.answer: dict[str, Any] = {}
        monkeypatch.setattr(FakeServices, "says", lambda: self.answer, raising=False)
        monkeypatch.setattr(sessions, "Services", FakeServices)
        for name in ("shop/users.py", "money.py", "demo.py", "tests/test_users.py", "schemas/users.event.avsc"):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text("")
        project = Project((root,), root / ".pipeline")
        order = Order("shop", None, [], "", str(root / ".pipeline"), 0, [str(root)])
        settings = Settings(root / "pipeline.toml", lambda: self.settings)
        self.session = Session(order, project, root / "shop", Any, None, settings, self.said.append, lambda *_: None)
        self.load(self.ready())

    def ready(self, **others: Any) -> dict[str, Any]:
        """What a process says that has loaded."""
        files = [str(self.root / name) for name in ("shop/users.py", "money.py")]
        nothing: dict[str, Any] = {"forgot": [], "wrote": [], "created": [], "changed": [], "left": [], "questions": []}
        schemas = {"schemas": str(self.root / "schemas"), "texts": schema_texts(self.root / "schemas")}
        return nothing | schemas | {"files": files, "serving": ""} | others

    def load(self, answer: dict[str, Any]) -> None:
        """Have a process load, and answer."""
        self.answer = answer
        self.session._load()
        self.turn()

    def turn(self, *names: str) -> list[str]:
        """Save files; return what is said."""
        self.said.clear()
        self.session._turn([self.root / name for name in names])
        return list(self.said)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path.resolve(), monkeypatch)


@pytest.mark.parametrize("name", ["shop/users.py", "money.py", "shop/new.py"])
def test_what_the_topology_is_made_of_starts_it_anew(world: World, name: str) -> None:
    assert world.turn(name)[0].startswith(f"saved {name}")


@pytest.mark.parametrize("name", ["demo.py", "other.py", "tests/test_users.py"])
def test_what_it_is_not_made_of_does_not(world: World, name: str) -> None:
    assert world.turn(name) == []


def test_what_does_not_load_may_need_any_file_but_tests(world: World) -> None:
    world.load({"refused": "no module named other", "by_save": True})
    world.answer = {}
    assert world.turn("tests/test_users.py") == []
    assert world.turn("other.py")[0].startswith("saved other.py")
    assert world.turn("more.py")[0].startswith("saved more.py"), "while it loads"
    world.answer = world.ready()
    world.turn()
    assert world.turn("demo.py") == []


def test_schemas_that_the_services_have_written_themselves_are_no_save(world: World) -> None:
    path = world.root / "schemas" / "users.event.avsc"
    world.answer = {}
    world.turn("shop/users.py")
    path.write_text("what the classes ask for")
    assert world.turn("schemas/users.event.avsc") == []
    world.answer = world.ready()
    world.turn()
    assert world.turn() == []
    path.write_text("by hand")
    assert world.turn("schemas/users.event.avsc")[0].startswith("saved schemas/users.event.avsc")


def test_a_schema_that_is_deleted_or_corrected_is_a_save(world: World) -> None:
    path = world.root / "schemas" / "users.event.avsc"
    path.unlink()
    world.answer = {"refused": "no JSON", "by_save": True}
    assert world.turn("schemas/users.event.avsc")[0].startswith("saved schemas/users.event.avsc (deleted)")
    path.write_text("")
    assert world.turn("schemas/users.event.avsc")[0].startswith("saved schemas/users.event.avsc")


def test_settings_that_have_changed_are_told_and_start_nothing(world: World) -> None:
    assert world.turn("pipeline.toml") == []
    world.settings = "home changed; start again"
    assert world.turn("pipeline.toml") == ["saved pipeline.toml (deleted): home changed; start again"]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("projection", "with version=3 (replace(…)), save,\n  then: pipeline projection switch sales --topology shop"),
        ("aggregate", "give the aggregate revision=3"),
        ("replica", "give the replica another name"),
    ],
)
def test_a_table_that_folds_otherwise_is_told_with_the_cure(world: World, kind: str, says: str) -> None:
    world.answer = world.ready(changed=[{"kind": kind, "name": "sales", "number": 2}])
    told = "\n".join(world.turn("shop/users.py"))
    assert f"the {kind} sales folds otherwise now" in told
    assert "that are there stay as they were" in told
    assert says in told
    assert "pipeline dev shop --fresh" in told


@pytest.mark.parametrize(
    ("is_local", "says"), [(True, "pipeline dev shop --fresh"), (False, "restore that from version")]
)
def test_what_the_broker_alone_has_names_its_ways_out(world: World, is_local: bool, says: str) -> None:
    world.session._order = Order("shop", None, [], "kafka:9092", "", 0, is_local=is_local)
    refusal = {"refused": "users.event: …", "by_save": True, "schemas": True, "committed": False, "published": True}
    world.answer = refusal
    told = "\n".join(world.turn("shop/users.py"))
    assert says in told
    assert ("--fresh" in told) == is_local


# --- the local Kafka --------------------------------------------------------------------------------------------------


class FakeKafka:
    """What `local` has of a broker, without one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.running: local.Running | None = None
        self.starts: list[dict[str, Any]] = []
        self.port, self.downs, self.now = 9000, 0, 0.0
        for name in ("find", "up", "down"):
            monkeypatch.setattr(local, name, getattr(self, name))
        monkeypatch.setattr("pipeline.develop.broker.time", SimpleNamespace(monotonic=lambda: self.now))

    def find(self, _: Path) -> local.Running | None:
        return self.running

    def up(self, _: Path, **options: Any) -> local.Running:
        self.starts.append(options)
        self.running = self.running or local.Running(len(self.starts), f"127.0.0.1:{self.port}")
        return self.running

    def down(self, _: Path) -> None:
        self.downs += 1

    def release(self, pid: int) -> None:
        """As `Children`."""

    def look(self, broker: LocalBroker, *, later_s: float = 5.0) -> str | None:
        self.now += later_s
        return broker.look()


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    return FakeKafka(monkeypatch)


def test_a_kafka_that_ends_is_started_again_on_its_data(kafka: FakeKafka, tmp_path: Path) -> None:
    said: list[str] = []
    broker = LocalBroker(tmp_path, kafka, said.append, keep=False)  # type: ignore[arg-type]
    assert broker.start(fresh=True) == "127.0.0.1:9000"
    assert kafka.look(broker) is None
    kafka.running, kafka.port = None, 9001
    assert kafka.look(broker) == "127.0.0.1:9001"
    assert [each["fresh"] for each in kafka.starts] == [True, False]
    assert "ended by itself" in said[1]
    broker.stop()
    assert kafka.downs == 2


def test_one_that_goes_on_ending_is_given_up(kafka: FakeKafka, tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path, kafka, str, keep=False)  # type: ignore[arg-type]
    broker.start(fresh=False)
    for _ in range(TRIES):
        kafka.running = None
        assert kafka.look(broker)
    kafka.running = None
    with pytest.raises(
        LocalBrokerError, match=r"ended by itself 4 times; see its log: .*pipeline dev TOPOLOGY --fresh"
    ):
        kafka.look(broker)
    kafka.running = None
    broker._deaths = TRIES
    assert kafka.look(broker, later_s=1_000), "one that ran long has a fresh count"


def test_one_that_ran_before_is_started_again_and_left_running(kafka: FakeKafka, tmp_path: Path) -> None:
    kafka.running = local.Running(1, "127.0.0.1:9000")
    broker = LocalBroker(tmp_path, kafka, str, keep=False)  # type: ignore[arg-type]
    broker.start(fresh=False)
    kafka.running = None
    assert kafka.look(broker)
    assert kafka.starts[-1]["guard"] is None
    broker.stop()
    assert kafka.downs == 0
