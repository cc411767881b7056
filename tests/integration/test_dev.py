"""`pipeline dev`: what is saved runs, what has been decided stays, what does not load harms nothing; and its end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from pipeline.broker import local
from pipeline.cli import main
from tests.helpers.support import until
from tests.helpers.till import TILL, write_till
from tests.integration.test_processes import processes_of

PIPELINE = [sys.executable, "-m", "pipeline"]
FILE = "till/tills.py"
PATIENCE_S = 180.0  # a reload takes three seconds, and a minute on a machine that is busy


class Dev:
    """A `pipeline dev` of a project of its own, and what it has said."""

    def __init__(self, project: Path, *arguments: str) -> None:
        self.project, self.home, self.log = project, project / ".pipeline", project / "dev.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
        with self.log.open("a") as out:
            self.process = subprocess.Popen(
                [*PIPELINE, "dev", *arguments], stdout=out, stderr=out, cwd=project, env=environment
            )
        self._mark = 0
        try:
            self.url = self.said(r"HTTP +(http://\S+)")[1]
        except BaseException:
            self.end()
            raise

    def said(self, pattern: str) -> re.Match[str]:
        """Wait until it says that, after what was looked for before."""

        def look() -> re.Match[str] | None:
            assert self.process.poll() is None, self.log.read_text()
            return re.compile(pattern).search(self.log.read_text(), self._mark)

        found: re.Match[str] = until(f"{pattern!r} is said", look, PATIENCE_S)
        self._mark = found.end()
        return found

    def save(self, text: str, file: str = FILE) -> None:
        """Save as many editors do: beside, and renamed."""
        beside = self.project / f"{file}~"
        beside.write_text(text)
        beside.replace(self.project / file)

    def send(self, amount: int, what: str = "TakeOut", *, key: str, once: str = "") -> dict[str, Any]:
        """Send a command, and return what was decided."""
        headers = {"Idempotency-Key": once} if once else {}
        body = {"type": what, "amount": amount}
        url = f"{self.url}/v1/commands/tills/{key}"

        def decided() -> dict[str, Any] | None:
            response = httpx.post(url, json=body, headers=headers, timeout=30)
            return None if response.status_code in (503, 504) else response.json()

        found: dict[str, Any] = until("it is decided", decided, PATIENCE_S)
        return found

    def holds(self, key: str) -> int:
        response = httpx.get(f"{self.url}/v1/tables/tills/{key}", timeout=30).raise_for_status()
        return int(response.json()["row"]["holds"])

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


pytestmark = pytest.mark.long  # a broker, and a process at each step


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """One for all tests here but the last; each has keys of its own, and leaves the service as it found it."""
    project = tmp_path_factory.mktemp("dev")
    write_till(project)
    running = Dev(project)
    yield running
    if running.process.poll() is None:
        running.end()


def test_what_it_says_to_type_next_can_be_typed(dev: Dev) -> None:
    said = dev.log.read_text()
    bin_first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name, shown in (("try", "accepted: version 1"), ("then", "holds  1")):
        found = re.search(rf"^  {name} +(pipeline .*)$", said, re.MULTILINE)
        assert found
        typed = subprocess.run(
            found[1], shell=True, cwd=dev.project, env={**os.environ, "PATH": bin_first}, capture_output=True, text=True
        )
        assert shown in typed.stdout, typed
    page = httpx.get(f"{dev.url}/docs")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "/v1/commands/tills/{key}" in page.text


def test_a_save_changes_what_is_decided_and_nothing_that_was(dev: Dev) -> None:
    assert dev.send(10, "PutIn", key="ada", once="1")["version"] == 1
    assert dev.send(15, key="ada")["reason"] == "too_little"
    dev.save(TILL.replace("if amount <= till.holds", "if amount <= till.holds + 100"))
    dev.said(rf"saved {FILE}")
    dev.said("reloaded in")
    assert dev.send(15, key="ada")["version"] == 2
    assert dev.holds("ada") == -5
    assert dev.send(10, "PutIn", key="ada", once="1")["version"] == 1, "sent again, it has no second effect"
    assert dev.holds("ada") == -5


def test_what_does_not_load_is_shown_and_the_services_go_on(dev: Dev) -> None:
    dev.save(TILL.replace("def evolve(till, event):", "def evolve(till, event:"))
    assert FILE in dev.said(r"not reloaded:[^~]*SyntaxError[^~]*the services go on as they were")[0]
    assert dev.send(1, "PutIn", key="bea")["version"] == 1
    dev.save(TILL + "\nsmallest = LEAST\n")
    said = dev.said(r"not reloaded:[^~]*the services go on as they were")[0]
    assert "NameError: name 'LEAST' is not defined" in said
    assert f'{FILE}", line {TILL.count(chr(10)) + 2}' in said
    assert "smallest = LEAST" in said
    (dev.project / FILE).unlink()
    dev.said("declares no service")
    dev.save(TILL)
    dev.said("reloaded in")
    assert dev.send(1, "PutIn", key="bea")["version"] == 2


def test_schemas_follow_the_classes_and_what_could_not_be_read_is_refused(dev: Dev) -> None:
    assert dev.send(1, "PutIn", key="cleo")["version"] == 1
    dev.save(TILL.replace("class Moved:\n    amount: int", "class Moved:\n    amount: int\n    why: str"))
    said = dev.said(r"not reloaded:[^~]*the services go on as they were")[0]
    assert "Moved.why: was absent; is string without a default" in said
    assert "cure: give why a default" in said
    assert "pipeline dev till --fresh" in said
    assert '"why"' not in (dev.project / "schemas" / "tills.event.avsc").read_text()
    assert dev.send(1, "PutIn", key="cleo")["version"] == 2
    dev.save(TILL.replace("class Moved:\n    amount: int", 'class Moved:\n    amount: int\n    why: str = "till"'))
    dev.said("wrote tills.event.avsc")
    dev.said("reloaded in")
    sent = dev.send(1, "PutIn", key="cleo")
    assert (sent["version"], sent["events"][0]["why"]) == (3, "till")
    assert dev.holds("cleo") == 3


def test_a_shell_has_the_running_services_at_hand(dev: Dev, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dev.project)
    monkeypatch.setattr("sys.path", [*sys.path])
    code = 'client.send(tills, "fay", PutIn(amount=4), wait=30); query.get(tills, "fay").row.holds * Till(2).holds'
    shell = CliRunner().invoke(main, ["shell", "--command", code])
    assert (shell.exit_code, shell.stdout) == (0, "8\n"), shell.output
    typed = CliRunner().invoke(main, ["shell"], input="print(tills.name)\n1 / 0\n")
    assert (typed.exit_code, typed.stdout) == (1, "tills\n")
    assert "ZeroDivisionError" in typed.stderr
    assert "click" not in typed.stderr
    wrong = CliRunner().invoke(main, ["shell", "-c", 'query.get("till", "fay")'])
    assert wrong.exit_code == 2
    assert "error: no table 'till'" in wrong.stderr


def test_a_changed_setting_is_said(dev: Dev) -> None:
    settings = dev.project / "pipeline.toml"
    before = settings.read_text()
    settings.write_text(f'{before}bootstrap = "127.0.0.1:9"\n')
    dev.said(
        "saved pipeline.toml: bootstrap changed; to have it so, end this with Ctrl-C, and start pipeline dev again"
    )
    settings.write_text(before)


def test_what_the_broker_has_stays_readable_though_the_schemas_are_deleted(dev: Dev) -> None:
    assert dev.send(1, "PutIn", key="hal")["version"] == 1
    dev.save(TILL.replace("class Moved:\n    amount: int", "class Moved:\n    amount: str"))
    dev.said("not reloaded:")
    shutil.rmtree(dev.project / "schemas")
    dev.said(r"saved schemas/manifest\.json \(deleted\)")
    said = dev.said(r"not reloaded:[^~]*the services go on as they were")[0]
    assert "Moved.amount: was long; is string" in said
    assert "pipeline dev till --fresh" in said
    dev.save(TILL)
    dev.said(r"wrote tills.command.avsc, tills.event.avsc, tills.state.avsc\n")
    dev.said("reloaded in")
    assert dev.send(1, "PutIn", key="hal")["version"] == 2
    assert dev.holds("hal") == 2


def test_a_table_that_folds_otherwise_is_said(dev: Dev) -> None:
    assert dev.send(3, "PutIn", key="ivy")["version"] == 1
    dev.save(TILL.replace("till.holds + event.amount", "till.holds + 2 * event.amount"))
    dev.said("the aggregate tills folds otherwise now; states that are there stay as they were")
    dev.said(r"give the aggregate revision=2\n  or begin with nothing there: pipeline dev till --fresh")
    dev.said("reloaded in")
    assert dev.holds("ivy") == 3
    dev.save(TILL)
    dev.said("reloaded in")


def test_a_kafka_that_ends_is_started_again_on_its_data(dev: Dev) -> None:
    assert dev.send(1, "PutIn", key="joe")["version"] == 1
    running = local.find(dev.home / "broker")
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    dev.said("the local Kafka has ended by itself")
    dev.said("the local Kafka runs again")
    assert dev.send(1, "PutIn", key="joe", once="after")["version"] == 2  # asked again where no answer comes in time


def test_a_new_service_gets_its_schemas_and_topics(dev: Dev) -> None:
    dev.save(TILL.replace('"tills"', '"boxes"'), "till/boxes.py")
    dev.said(r"wrote boxes.command.avsc, boxes.event.avsc, boxes.state.avsc\n")
    dev.said("created boxes.command, boxes.event, boxes.state and 5 more")
    dev.said("reloaded in")
    tables = httpx.get(f"{dev.url}/v1/tables").json()
    assert sorted(tables) == ["boxes", "tills"]


def test_services_that_end_by_themselves_start_again(dev: Dev) -> None:
    assert dev.send(1, "PutIn", key="dora")["version"] == 1
    (worker,) = [pid for pid, command in processes_of(dev.home).items() if "pipeline.develop.candidate" in command]
    os.kill(worker, signal.SIGKILL)
    dev.said("the services have ended by signal 9; they start again")
    dev.said("reloaded in")
    assert dev.send(1, "PutIn", key="dora")["version"] == 2


def test_saves_of_what_is_no_part_of_it_start_nothing(dev: Dev) -> None:
    (dev.project / "tests").mkdir()
    for name in ("tests/test_tills.py", "demo.py"):
        (dev.project / name).write_text("a = 1\n")
    time.sleep(0.5)  # so that the two are two changes; if the first counted, it would be said
    dev.save(TILL)
    assert dev.said("saved (.*)")[1] == FILE
    dev.said("reloaded in")


def test_a_second_one_is_refused_in_the_same_home(dev: Dev) -> None:
    second = subprocess.run([*PIPELINE, "dev"], cwd=dev.project, capture_output=True, text=True, timeout=60)
    assert second.returncode == 2
    assert f"another pipeline dev, process {dev.process.pid}, uses" in second.stderr
    dev.send(1, "PutIn", key="eve")


def test_its_end_leaves_no_process_and_the_next_start_has_the_data(dev: Dev) -> None:
    assert local.find(dev.home / "broker") is not None
    assert dev.end() == 0
    assert not processes_of(dev.home)
    assert dev.log.read_text().rstrip().endswith("ended")


def test_with_another_kafka_that_stays(kafka: str, tmp_path: Path) -> None:
    write_till(tmp_path)
    dev = Dev(tmp_path, "--bootstrap", kafka)
    assert dev.send(3, "PutIn", key="gus")["version"] == 1
    dev.end(signal.SIGTERM)
    assert not processes_of(tmp_path)
    with httpx.Client() as client, pytest.raises(httpx.ConnectError):
        client.get(dev.url)
