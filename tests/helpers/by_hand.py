"""`pipeline parked …` in the test's own process, with HTTP of the test's own in place of workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli.operate import parked as cli
from pipeline.cli.operate import pause, resume
from pipeline.client.owner_request import Answer, problem_of

Ask = Callable[..., tuple[int, Any]]  # (method, path, …): status and body


def parked_command(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, paused_now: Callable[..., Any] = lambda *_: ([], [])
) -> Callable[..., Any]:
    """What runs `pipeline parked`, or pause or resume if it is named, with these arguments, and asks by `ask`.

    `paused_now`: what the broker says of a service's partitions.
    """

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
    for module in (pause, resume):
        monkeypatch.setattr(module, "Workers", Workers)
        monkeypatch.setattr(module, "paused_now", paused_now)
    groups = {"pause": pause.command, "resume": resume.command}

    def run(*arguments: str) -> Any:
        command, rest = groups.get(arguments[0]), arguments[1:]
        chosen, given = (cli.command, arguments) if command is None else (command, rest)
        return CliRunner().invoke(chosen, [*given, "--bootstrap", "nowhere:1"])

    return run
