"""`pipeline lag`: totals first, then what lags or waits; fit for 80 columns and for machines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.adapters.kafka.lag.measuring import GroupLag, Measuring
from pipeline.cli import main
from pipeline.cli.operate import lag
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable
from topologies import users

TOPIC = "largest_orders_of_a_shop.by_key"


class Lags:
    """What the topics and the workers say, one after the other."""

    def __init__(self) -> None:
        self.measured: list[list[GroupLag] | Exception] = []
        self.workers: dict[str, dict[str, Any]] = {}

    def measure(self) -> dict[str, list[GroupLag]]:
        now = self.measured.pop(0) if len(self.measured) > 1 else self.measured[0]
        if isinstance(now, Exception):
            raise now
        return {"users": now}


@pytest.fixture
def lags(monkeypatch: pytest.MonkeyPatch) -> Lags:
    """No broker and no worker is asked."""
    found = Lags()

    class Silent:
        def __init__(self, *_: Any) -> None: ...
        def ask(self) -> dict[str, dict[str, Any]]:
            return found.workers

    monkeypatch.setattr(Measuring, "measure", lambda self: found.measure())
    monkeypatch.setattr(lag, "Waiting", Silent)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["lag", "--bootstrap", "localhost:1", "--service", "users", *arguments])


def behind(partition: int, records: int, seconds: float | None, topic: str = TOPIC) -> GroupLag:
    return GroupLag(TP(topic, partition), 7, 7 + records, records, seconds)


def test_totals_come_first_then_what_lags_and_it_fits(lags: Lags) -> None:
    assert users.service.name == "users"
    lags.measured = [[behind(0, 0, 0.0), behind(1, 1_234_567, 90_061.0), behind(2, 0, 0.0)]]
    places = {f"{TOPIC}-{n}": {"waits_for": "nothing"} for n in range(2)}
    restore = {"waits_for": "restore", "restore": {"done": 12, "target": 99}}
    lags.workers = {"users": {**places, f"{TOPIC}-2": restore}}
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "1234567 records to fold, the oldest 1 d 1 h old"
    assert max(map(len, lines)) <= 80
    assert result.output.index("users") < result.output.index(f"{TOPIC}-1")
    assert "1 restore" in result.output
    assert "restore 12 of 99" in result.output
    assert f"{TOPIC}-0" not in result.output, "it neither lags nor waits"
    assert f"{TOPIC}-0" in run("--all").output


def test_without_a_worker_all_but_what_it_waits_for_is_known(lags: Lags) -> None:
    lags.measured = [[behind(0, 3, 4.5)]]
    result = run("--json")
    total, row = map(json.loads, result.output.splitlines())
    assert total == {"service": "users", "partitions": 1, "records": 3, "seconds": 4.5, "waits_for": {"no_worker": 1}}
    assert row == {
        "service": "users",
        "topic": TOPIC,
        "partition": 0,
        "committed": 7,
        "end": 10,
        "records": 3,
        "seconds": 4.5,
        "waits_for": "no_worker",
    }
    assert "no worker" in run().output


def test_a_worker_that_does_not_answer_leaves_it_unknown(lags: Lags) -> None:
    lags.measured, lags.workers = [[behind(0, 3, None)]], {"users": {}}
    assert json.loads(run("--json").output.splitlines()[1])["waits_for"] is None
    result = run()
    assert "the oldest ? old" in result.output
    assert "1 unknown" in result.output


@pytest.mark.parametrize(("seconds", "code"), [(0.0, 0), (60.0, 0), (60.1, 1), (None, 1)])
def test_a_script_can_ask_for_a_bound(lags: Lags, seconds: float | None, code: int) -> None:
    lags.measured = [[behind(0, 3, seconds)]]
    assert run("--at-most", "60").exit_code == code


def test_it_is_watched_until_ctrl_c_also_while_the_broker_is_away(lags: Lags, monkeypatch: pytest.MonkeyPatch) -> None:
    lags.measured = [[behind(0, 3, 1.0)], BrokerUnreachable("no broker answers"), [behind(0, 1, 1.0)]]
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(lag.time, "sleep", sleep)
    result = run("--watch", "--every", "5", "--json")
    assert result.exit_code == 0, result.output
    assert looks == [5.0, 5.0, 5.0]
    told = [json.loads(line) for line in result.stdout.splitlines() if line]
    assert [each["records"] for each in told] == [3, 3, 1, 1]
    assert all(each["at_ms"] for each in told)
    assert "no figures: no broker answers" in result.stderr


def test_a_broker_that_is_away_at_first_is_an_error(lags: Lags) -> None:
    lags.measured = [BrokerUnreachable("no broker answers")]
    result = run("--watch")
    assert (result.exit_code, "no broker answers" in result.output) == (2, True)


def test_many_partitions_are_cut_the_oldest_lag_first(lags: Lags) -> None:
    lags.measured = [[behind(n, 1, float(n)) for n in range(lag.SHOWN_MAX + 5)]]
    output = run().output
    assert "and 5 more; --all shows them" in output
    assert f"{TOPIC}-{lag.SHOWN_MAX + 4} " in output
    assert f"{TOPIC}-4 " not in output
    assert f"{TOPIC}-4 " in run("--all").output


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7260, "2 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_time_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert lag.span(seconds) == text
