"""The demo's folder: whose it is, who uses it, and what is deleted in it."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.demo import folder
from pipeline.demo.folder import MARK, hold
from pipeline.demo.invoices import COLUMNS
from pipeline.errors import DemoFolderError

HOLDS = """
import sys
from pathlib import Path
from pipeline.demo.folder import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def make(home: Path, *files: str) -> None:
    for file in files:
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text("something")


def names(home: Path) -> set[str]:
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}


def test_a_demo_leaves_nothing_of_what_it_has_made(tmp_path: Path) -> None:
    home = tmp_path / "a" / "demo"
    with hold(home) as held:
        make(home, "broker/data/x", "broker/broker.log", "state/orders/0/y", "worker.log", "worker.json", "secret")
        held.leave()
    assert not home.exists()
    home.mkdir()
    with hold(home) as held:
        make(home, "worker.log")
        held.leave()
    assert list(home.iterdir()) == []  # the folder was there before


def test_logs_are_left_where_there_are_any(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    with hold(home) as held:
        make(home, "broker/data/x", "broker/broker.log", "state/orders/0/y", "worker.log", "secret")
        assert set(held.leave_logs()) == {home / "worker.log", home / "broker" / "broker.log"}
    assert names(home) == {MARK, "worker.log", "broker/broker.log"}
    with hold(home) as held:  # the next demo
        held.empty()
        assert names(home) == {MARK}
        make(home, "state/orders/0/y")
        assert held.leave_logs() == []
    assert not home.exists()


@pytest.mark.parametrize(
    "files", [["thesis.txt"], ["broker/broker.json"], ["state/orders/0/y"], [MARK, "thesis.txt"], [MARK, "statement"]]
)
def test_a_folder_that_holds_anything_else_is_refused_and_stays_as_it_is(tmp_path: Path, files: list[str]) -> None:
    home, source = tmp_path / "home", tmp_path / "x.csv"
    make(home, *files)
    source.write_text(",".join(COLUMNS) + "\n1,TEA,TEA,1,2009-12-01 07:45:00,1.5,17850,France\n")
    done = CliRunner().invoke(main, ["demo", "--input", str(source), "--home", str(home)])
    assert done.exit_code == 2
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith(f"error: {home} contains what no demo has made, '{files[-1].partition('/')[0]}', ")
    assert "--home" in line
    assert names(home) == set(files)
    assert all((home / file).read_text() == "something" for file in files)


def test_what_is_added_while_a_demo_runs_stays(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    with hold(home) as held:
        make(home, "worker.log", "thesis.txt")
        held.leave()
    assert names(home) == {MARK, "thesis.txt"}
    with pytest.raises(DemoFolderError, match=r"'thesis\.txt'"), hold(home):
        pass
    with hold(home, to_empty=False):  # to stop what was kept there, nothing has to be deleted
        pass


def test_a_link_is_deleted_and_not_what_it_leads_to(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    make(tmp_path, "mine/thesis.txt")
    with hold(home) as held:
        (home / "state").symlink_to(tmp_path / "mine")
        held.leave()
    assert not home.exists()
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize("home", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_told(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DemoFolderError, match=r"cannot use .* as the demo's directory: .*--home"),
        hold(tmp_path / home),
    ):
        pass


def test_a_folder_has_one_demo_at_a_time(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    command = [sys.executable, "-c", HOLDS, str(home)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdin is not None
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    for arguments in (["demo"], ["demo", "--stop"]):
        done = CliRunner().invoke(main, [*arguments, "--home", str(home)])
        assert done.exit_code == 2
        assert f"error: another demo, process {first.pid}, uses {home}; " in done.stderr
    first.stdin.close()
    assert first.wait(30) == 0
    with hold(home):  # at once
        pass


def test_what_a_killed_demo_has_started_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "demo"
    looks = []
    with hold(home) as held:
        # As the watchdog of a demo that was killed: it holds the lock, and the process that is noted is no more.
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        (home / MARK).write_text(json.dumps({"pid": gone.pid}))
        watchdog = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[held.lock])
    assert watchdog.stdin is not None

    def look(_: float) -> None:
        looks.append(watchdog.poll())
        watchdog.stdin.close()
        watchdog.wait(30)

    monkeypatch.setattr(folder, "time", SimpleNamespace(sleep=look, monotonic=time.monotonic))
    with hold(home):
        assert looks == [None]
