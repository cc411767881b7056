"""The home of a `pipeline dev` that runs: nothing else ends its broker, and a second one says only that."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.develop import run
from pipeline.develop.candidate import Order
from pipeline.develop.held import held
from pipeline.develop.session import Settings
from pipeline.errors import StateDirectoryError

MAKEFILE = Path(run.__file__).parents[1] / "scaffold/templates/project/Makefile.template"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with held(tmp_path / "home"):
        yield tmp_path / "home"


def test_its_broker_is_not_stopped(home: Path) -> None:
    told = CliRunner().invoke(main, ["broker", "down", "--home", str(home)])
    assert told.exit_code != 0
    assert f"pipeline dev, process {os.getpid()}, uses the broker of" in " ".join(told.output.split())


def test_a_home_that_is_left_is_free(tmp_path: Path) -> None:
    with held(tmp_path):
        pass
    told = CliRunner().invoke(main, ["broker", "down", "--home", str(tmp_path)])
    assert (told.exit_code, told.output) == (0, "it was not running\n")


def test_make_fresh_stops_where_the_broker_is_not_stopped() -> None:
    lines = MAKEFILE.read_text().partition("\nfresh:")[2].splitlines()
    assert lines[1] == "\t@$$(BIN)/pipeline broker down"


def test_a_second_one_says_nothing_of_ports(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(run, "PORT", taken.getsockname()[1])
        settings = Settings(home / "pipeline.toml", str)
        order = Order("x", None, [], bootstrap="", home=str(home), port=0)
        with pytest.raises(StateDirectoryError, match="another pipeline dev"):
            run.run(order, home, settings, say=said.append, started=lambda *_: None, fresh=False, keep_broker=False)
    assert said == []
