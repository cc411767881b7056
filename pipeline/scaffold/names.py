"""What a project and its parts may be named, and the names that follow from these."""

from __future__ import annotations

import builtins
import keyword
import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import ScaffoldError

PROJECT = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
PART = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LENGTH = 40
FOLDERS = {"demo", "schemas", "tests", "wheels"}  # of a project, beside its package
# What the templates themselves name so.
TAKEN = {
    *("accepted", "annotations", "begun", "command", "context", "count", "dataclass", "decide", "driver", "event"),
    *("evolve", "given", "given_saga", "invariants", "key", "linear_saga", "load", "load_topology", "pipeline"),
    *("react", "rejected", "row", "saga", "service", "state", "steps"),
}
CLASSES = {
    *("Aggregate", "Command", "Event", "EventContext", "Progress", "Projection", "Reaction", "Rejected", "Replica"),
    *("Row", "Send", "Service", "Source", "State", "Step", "TestDriver", "To"),
}


def package_of(project: str) -> str:
    """Return the name of a project's package. Raises ScaffoldError if the project cannot be named so."""
    if not PROJECT.fullmatch(project) or len(project) > LENGTH:
        raise ScaffoldError(
            f"{project!r:.80} cannot name a project; use at most {LENGTH} lower-case letters, digits and dashes, a "
            f"letter first{_such_as(project)}"
        )
    package = project.replace("-", "_")
    _check_word(package, "a project")
    if package in FOLDERS:
        raise ScaffoldError(f"{project!r} cannot name a project: it has a folder {package} of its own; choose another")
    if package in sys.stdlib_module_names or package == "pipeline" or _is_installed(package):
        raise ScaffoldError(
            f"{project!r} cannot name a project: its package would hide the module {package!r} that is there; choose "
            f"another, such as {project}-app"
        )
    return package


def _is_installed(package: str) -> bool:
    """Return whether a module of that name is found elsewhere than in the current directory."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
    return any(Path(place or "").resolve().parent != Path.cwd() for place in places)


def check_part(kind: str, name: str) -> None:
    """Raise ScaffoldError if a service, an aggregate or another part cannot be named so."""
    what = f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    if not PART.fullmatch(name) or len(name) > LENGTH:
        raise ScaffoldError(
            f"{name!r:.80} cannot name {what}; use at most {LENGTH} lower-case letters, digits and underscores, a "
            f"letter first{_such_as(name, '_')}"
        )
    _check_word(name, what)
    if name in TAKEN or hasattr(builtins, name) or camel(singular(name)) in CLASSES:
        raise ScaffoldError(
            f"{name!r} cannot name {what}: its module would have two things called {_clash(name)}; choose another"
        )


def _clash(name: str) -> str:
    return name if name in TAKEN or hasattr(builtins, name) else camel(singular(name))


def _check_word(name: str, what: str) -> None:
    if any(keyword.iskeyword(word) for word in (name, camel(singular(name)))):
        raise ScaffoldError(f"{name!r} cannot name {what}: it is a word of Python itself; choose another")


def _such_as(name: str, joint: str = "-") -> str:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    better = joint.join(re.findall(r"[a-z0-9]+", words.lower())).lstrip("0123456789" + joint)[:LENGTH].rstrip(joint)
    return f", such as {better}" if better and better != name else ""


def singular(name: str) -> str:
    """Return the name of one of several: `orders` are of an `order`. What is no plural stays."""
    head, _, last = name.rpartition("_")
    start = f"{head}_" if head else ""
    if len(last) > 3 and last.endswith("ies"):
        return f"{start}{last[:-3]}y"
    if last.endswith(("sses", "xes", "ches", "shes")):
        return start + last[:-2]
    if len(last) > 2 and last.endswith("s") and not last.endswith(("ss", "us", "is")):
        return start + last[:-1]
    return name


def camel(name: str) -> str:
    """Return a name as that of a class: `order_line` is `OrderLine`."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


@dataclass(frozen=True, slots=True)
class Words:
    """An aggregate's name as the templates write it: many, one, and the class of one."""

    many: str

    @property
    def one(self) -> str:
        """One of them, in a sentence."""
        return singular(self.many).replace("_", " ")

    @property
    def an(self) -> str:
        """One of them, with its article."""
        return f"{'an' if self.one[0] in 'aeiou' else 'a'} {self.one}"

    @property
    def kind(self) -> str:
        """The class of one."""
        return camel(singular(self.many))

    @property
    def use(self) -> str:
        """The projection that comes with it."""
        return f"{singular(self.many)}_use"

    def as_placeholders(self, prefix: str = "") -> dict[str, str]:
        """Return the placeholders of the templates, each beginning with `prefix`."""
        found = {"many": self.many, "one": self.one, "an": self.an, "kind": self.kind, "use": self.use}
        return {f"{prefix}{name}": value for name, value in found.items()}
