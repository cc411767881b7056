"""Every cure that a message names exists: commands with their options and arguments, extras, pages, files."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pipeline.cli import COMMANDS, main

ROOT = Path(__file__).parents[3]
# Of Docker, of Kafka's own scripts, of ruff.
FOREIGN = {"--ulimit", "--from", "--reset-offsets", "--select", "--quiet", "--no-cache"}
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
SCRIPT = re.compile(
    r"\bkafka-(?:acls|configs|topics|storage|console|reassign|consumer-groups|get|run|server)[\w-]*|\w+\.sh\b"
)
NOT_YET = {"kafka-consumer-groups"}  # what sets a group's offsets
COMMAND = re.compile(r"\bpipeline(?: [^\s,;()'\"|]+)+")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")


def messages() -> Iterator[tuple[str, str]]:
    """The texts in the code but for docstrings, with their places; what is filled in is X."""
    for path in sorted(ROOT.glob("pipeline/**/*.py")):
        tree = ast.parse(path.read_text())
        parts = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.Expr) for part in children(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                text = node.value
            else:
                continue
            yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def children(node: ast.JoinedStr | ast.Expr) -> list[ast.expr]:
    return node.values if isinstance(node, ast.JoinedStr) else [node.value]


def fault(words: list[str]) -> str | None:
    """What is wrong with a command line; None if it can be run as it is."""
    context, command = click.Context(main), main.get_command(click.Context(main), words[0])
    if command is None:
        return f"no command {words[0]}"
    rest = words[1:]
    while isinstance(command, click.Group):
        inner = command.get_command(context, rest[0]) if rest else None
        if inner is None:
            return f"no command {' '.join(words)}"
        command, rest = inner, rest[1:]
    options = {name: param for param in command.params for name in [*param.opts, *param.secondary_opts]}
    positional = 0
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            positional += 1
        elif word not in options:
            return f"{command.name} has no option {word}"
        elif not getattr(options[word], "is_flag", False):
            rest = rest[1:]
    needed = sum(param.required for param in command.params if isinstance(param, click.Argument))
    return None if positional >= needed else f"{command.name} needs {needed} arguments"


SAID = list(messages())


def test_there_is_much_to_check() -> None:
    assert sum(len(COMMAND.findall(text)) for _, text in SAID) > 20
    assert fault(["topics", "create"]) == "create needs 1 arguments"
    assert fault(["topics", "mend", "X"]) == "no command topics mend X"
    assert fault(["broker", "up", "--new"]) == "up has no option --new"


def run_in(page: str) -> Iterator[str]:
    """The lines of a page that are to be typed as they are."""
    for line in re.findall(r"^ {4}\s*(pipeline .*)$", page, re.MULTILINE):
        yield line.partition(" #")[0].partition(" 2>")[0].strip()


def mentioned_in(page: str) -> Iterator[str]:
    """The commands that the sentences of a page name: `pipeline a b --option`, or of several: `pipeline a | b`."""
    for text in re.findall(r"`(pipeline [a-z0-9-][^`]*)`", page):
        first, *others = re.split(r" \| ", " ".join(text.split()))
        yield first
        for other in others:
            yield first.rpartition(" ")[0] + f" {other}"


def typed(line: str) -> str | None:
    """What is wrong with a line for a shell; None if it can be run as it is."""
    words = shlex.split(line)[1:]
    while words and words[0].startswith("--"):  # an option of `pipeline` itself, and its value
        if not any(words[0] in param.opts for param in main.params):
            return f"no option {words[0]}"
        words = words[2:]
    return fault(words) if words else None


def mentioned(text: str) -> str | None:
    """What is wrong with a command in a sentence, which may lack arguments, or be a group; None if it exists."""
    problem = typed(text.replace("'", ""))
    group = main.get_command(click.Context(main), text.split()[1])
    lacks = problem and (re.search(r" needs \d+ arguments$", problem) or text.count(" ") == 1)
    return None if lacks and group is not None else problem


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_shows_can_be_typed(page: Path) -> None:
    assert [f"{line}: {problem}" for line in run_in(page.read_text()) if (problem := typed(line))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_mentions_exists(page: Path) -> None:
    found = [f"{text}: {problem}" for text in mentioned_in(page.read_text()) if (problem := mentioned(text))]
    assert found == []


def test_what_is_no_command_is_found_on_a_page() -> None:
    page = "    pipeline parked lst  # all\n\n`pipeline worker --procs`, `pipeline broker up | stat`\n"
    page += "`pipeline parked`, `pipeline park`\n"
    assert [typed(line) for line in run_in(page)] == ["no command parked lst"]
    assert [mentioned(text) for text in mentioned_in(page)] == [
        "command has no option --procs",
        None,
        "no command broker stat",
        None,
        "no command park",
    ]
    assert typed("pipeline --client-config x worker topologies") is None
    assert typed("pipeline --clients x worker topologies") == "no option --clients"


def test_no_cure_needs_a_script_that_comes_with_kafka_alone() -> None:
    """This package brings a broker, and none of its scripts."""
    texts = [*SAID, *((page.name, page.read_text()) for page in PAGES)]
    found = {(place, script) for place, text in texts for script in SCRIPT.findall(text) if script not in NOT_YET}
    assert found == set()


def test_every_command_that_a_message_names_can_be_run() -> None:
    wrong = []
    for place, text in SAID:
        for found in COMMAND.findall(text):
            words = found.rstrip(".:").split()[1:]
            # A cure follows a colon, or "with"; else "pipeline" may be the word.
            if (words[0] in COMMANDS or f": {found}" in text) and (problem := fault(words)) and len(words) > 1:
                wrong.append(f"{place}: {found}: {problem}")
    assert wrong == []


def test_every_option_that_a_message_names_exists() -> None:
    def options(command: click.Command) -> set[str]:
        found = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        inner = command.commands.values() if isinstance(command, click.Group) else ()
        return found.union(*map(options, inner))

    there = options(main).union(*(options(main.get_command(click.Context(main), name)) for name in COMMANDS))  # type: ignore[arg-type]
    named = {option for _, text in SAID for option in OPTION.findall(text)}
    assert named - there - {"--help"} - FOREIGN == set()


def test_every_extra_page_and_file_that_a_message_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for place, text in SAID:
        for extra in re.findall(r"kafka-pipeline\[(\w+)\]", text):
            assert extra in extras, place
        for page in re.findall(r"docs/\w+\.md|docker-compose\.yml|README\.md", text):
            assert (ROOT / page).exists(), place


@pytest.mark.parametrize("home", ["", "my home"])
def test_the_broker_of_another_home_is_started_there(home: str) -> None:
    from pipeline.cli.options import HOME, start_broker

    assert start_broker(Path(home) if home else HOME) == "pipeline broker up" + (f" --home '{home}'" if home else "")
