"""The tutorial's commands on a real Kafka: typed chapter by chapter, as a reader types them, beside `make dev`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.projects import AS_INSTALLED, BIN, ROOT, call, elsewhere
from tests.helpers.support import until
from tests.helpers.tutorial import CHAPTERS, follow

pytestmark = pytest.mark.long  # a broker, and a process at each step

# What is done otherwise here: the package is installed; tests/unit/docs runs the project's tests and checks.
NOT_TYPED = ("pip install", "pipeline new", "cd ", "make test", "make check", "ruff ")
PATIENCE_S = 300.0
QUIET_S = 5.0  # a save is followed by a reload; files that are saved together may need two
# A line or block, as it begins in a chapter, and what it must print.
SAYS = [
    ("1", 'pipeline send books 12 ReserveBook \'{"by": "anna"}\'', r"accepted: version 1"),
    ("1", 'pipeline send books 12 ReserveBook \'{"by": "bob"}\'', r"rejected: taken"),
    ("1", "pipeline query books 12", r"anna"),
    ("1", "pipeline query book_use 12", r"anna"),
    ("1", "curl", r'"last_by": ?"anna"'),
    ("2", 'pipeline send books 12 LendBook \'{"to": "bob"}\'', r"rejected: lent\n +to +anna"),
    ("2", "pipeline query books 12", r"lent_to +anna"),
    ("3", "pipeline history books 12", r"BookRegistered(.|\n)+BookLent(.|\n)+BookReturned(.|\n)+BookLent"),
    ("3", "pipeline history books 12 --as-of 2", r"lent_to +anna"),
    ("3", "pipeline history books 12 --diff 2 4", r"lent_to.*anna.*bob"),
    ("3", "[past.event", r"BookReturned\((.|\n)+Book\(.*lent_to='anna'"),
    ("3", "pipeline explain books 12", r"BookLent"),
    ("3", "pipeline send books 13 RegisterBook", r"accepted: version 1"),
    ("4", "pipeline query readers", r"bob"),
    ("4", "pipeline query readers bob", r"12"),
    ("4", "outcome =", r"Reader\(books=\('13',\), in_all=1\)"),
    ("5", "pipeline send members dora", r"accepted: version 1"),
    ("6", "pipeline deadlines books 15", r"due"),
    ("7", "pipeline saga list deliveries --state done --state undone", r"d1\n(.|\n)+ done(.|\n)+d2\n(.|\n)+ undone"),
    ("7", "pipeline explain deliveries d2", r"TakeFee(.|\n)+REFUSED by books(.|\n)+GiveFeeBack"),
    ("7", "pipeline query members anna", r"cents +300"),
    ("8", "pipeline query books 16", r"title +Walden"),
    ("8", "pipeline send books 17", r"accepted: version 1"),
    ("8", "pipeline verify library --decided-since", r"verified: every record"),
]


LOOKS = ("pipeline query", "pipeline saga list", "pipeline explain")


class Reader:
    """Types commands in a project's folder, with this package as the installed one."""

    def __init__(self, project: Path) -> None:
        self.project, self.log = project, project.parent / "dev.log"
        env = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
        self._env = env | {"PYTHONPATH": str(ROOT), "PATH": f"{BIN}{os.pathsep}{env['PATH']}"}
        self.dev: subprocess.Popen[bytes] | None = None
        self._url = ""

    def starts_dev(self) -> None:
        self.log.unlink(missing_ok=True)
        with self.log.open("w") as out:
            self.dev = subprocess.Popen(
                ["make", *AS_INSTALLED, "dev"],
                cwd=self.project,
                env=self._env,
                stdout=out,
                stderr=out,
                start_new_session=True,  # so that Ctrl+C reaches all that make has started, as in a terminal
            )
        self._url = self._said(r"HTTP +http://(\S+)")[1]

    def ends_dev(self) -> None:
        if self.dev is not None:
            os.killpg(self.dev.pid, signal.SIGINT)
            self.dev.wait(120)
            self.dev = None

    def _said(self, pattern: str) -> re.Match[str]:
        def look() -> re.Match[str] | None:
            assert self.dev is not None
            assert self.dev.poll() is None, self.log.read_text()
            return re.search(pattern, self.log.read_text())

        found: re.Match[str] = until(f"{pattern!r} is said", look, PATIENCE_S)
        return found

    def saves(self, chapter: Path) -> None:
        """Put the chapter's code into the files, and wait until all of it runs."""
        before = len(self.log.read_text()) if self.dev is not None else 0
        follow(chapter, self.project)
        if self.dev is None:
            return

        def reloaded() -> bool:
            text, age = self.log.read_text()[before:], self._log_age()
            return text.rfind("reloaded in") > max(text.rfind("saved "), text.rfind("not reloaded")) and age > QUIET_S

        until(f"the services of {chapter.stem} run", reloaded, PATIENCE_S)

    def _log_age(self) -> float:
        now = self.project.parent / "now"
        now.touch()
        return now.stat().st_mtime - self.log.stat().st_mtime

    def types(self, line: str) -> str:
        """Type a line; a rejection is no failure. Return what it prints."""
        line = line.replace("localhost:6066", self._url)
        line = line.replace("make ", f"make {' '.join(AS_INSTALLED)} ")
        done = subprocess.run(
            line, shell=True, cwd=self.project, env=self._env, capture_output=True, text=True, timeout=300
        )
        print(f"$ {line}\n{done.stdout}{done.stderr}")
        refused = "rejected: " in done.stdout or "likely cause: decide has changed" in done.stdout
        assert done.returncode == (1 if refused else 0), (line, done.stdout, done.stderr)
        return done.stdout

    def asks_in_the_shell(self, code: str) -> str:
        """Type a block in `pipeline shell`; what is an expression is shown there."""
        lines = [line if " = " in line else f"print({line})" for line in code.strip().splitlines()]
        env = self._env | {"CODE": "\n".join(lines)}
        line = 'pipeline shell library --command "$CODE"'
        done = subprocess.run(line, shell=True, cwd=self.project, env=env, capture_output=True, text=True, timeout=300)
        print(f"{line}\n{code}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, done.stderr
        return done.stdout


def steps(chapter: Path) -> Iterator[tuple[str, str]]:
    """What a reader does: ("code", …) once at the first block for a file, ("type", line), ("shell", block)."""
    followed = False
    for fence, title, block, line in re.findall(
        r"^(```)python( title=.*)?\n((?:.|\n)*?)^```$|^    (\S.*)$", chapter.read_text(), re.MULTILINE
    ):
        if fence and title:
            if not followed:
                yield "code", ""
            followed = True
        elif fence:
            yield "shell", block
        elif not line.startswith((*NOT_TYPED, "pipeline shell")):
            yield "type", line


def moment(said: str) -> str:
    """The moment for --decided-since in what verify has said."""
    found = re.search(r"--decided-since\s+(\S+),", said)
    assert found, said
    return found[1]


def shown(reader: Reader, line: str, wanted: list[str], said: str) -> str | None:
    """What the line printed if it is all that is wanted, else what it prints now; None while that is not it."""
    for each in (said, None):
        told = reader.types(line) if each is None else each
        if all(re.search(pattern, told) for pattern in wanted):
            return told or line
    return None


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with elsewhere(tmp_path):
        result = call("new", "library", "--service", "books", "--pipeline-from", "published")
        assert result.exit_code == 0, result.output
    made = Reader(tmp_path / "library")
    try:
        yield made
    finally:
        made.ends_dev()


def test_its_commands_say_what_it_says(reader: Reader) -> None:
    told: list[tuple[str, str, str]] = []
    for chapter in CHAPTERS:
        number = chapter.stem[0]
        typed = list(steps(chapter))
        if ("type", "make fresh") in typed:
            reader.ends_dev()
        for kind, what in typed:
            if kind == "code":
                reader.saves(chapter)
            elif what == "make dev":
                reader.starts_dev()
            else:
                if "--decided-since" in what:  # the moment that it has named
                    what = re.sub(r"(?<=--decided-since )\S+", moment(told[-1][2]), what)
                said = reader.types(what) if kind == "type" else reader.asks_in_the_shell(what)
                if what.startswith(LOOKS):  # tables follow; a reader who is too fast looks again
                    wanted = [pattern for at, line, pattern in SAYS if at == number and what == line]
                    said = until(f"{what} says it", partial(shown, reader, what, wanted, said), PATIENCE_S)
                told.append((number, what, said))
    for number, line, pattern in SAYS:
        found = [said for at, what, said in told if at == number and what.startswith(line)]
        assert found, (number, line)
        assert any(re.search(pattern, said) for said in found), (number, line, pattern, found)
    lent = [said for at, what, said in told if at == "5" and "14 LendBook" in what]
    assert ["rejected: no_member" in said for said in lent] == [True, False]
