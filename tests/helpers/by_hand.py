"""`pipeline parked …` in the test's own process, with HTTP of the test's own in place of workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli.operate import parked as cli
from pipeline.client.owner_request import Answer, problem_of

Ask = Callable[..., tuple[int, Any]]  # (method, path, …): status and body


def parked_command(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What runs the command with these arguments, and asks by `ask`."""

    class Workers(cli.Workers):
        def __init__(self, *given: object) -> None:
            pass

        def ask(self, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> dict[str, Any]:
            status, told = ask("GET", path, params=query) if body is None else ask("POST", path, json=body)
            if error := problem_of(Answer(status, told, {})):
                raise error
            found: dict[str, Any] = told
            return found

    monkeypatch.setattr(cli, "Workers", Workers)
    return lambda *arguments: CliRunner().invoke(cli.command, [*arguments, "--bootstrap", "nowhere:1"])
