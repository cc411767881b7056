"""What `pipeline dev` does from its start to Ctrl-C: services that start anew at each save.

A changed topology is loaded by a new process, beside the one that runs. Only once it has loaded, its schemas fit and
its topics are there, the old process is stopped, in order, and the new one goes on with the same tables. What has been
decided stays decided: positions and the ids of commands are in these tables and in Kafka.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.develop.broker import LocalBroker
from pipeline.develop.candidate import Order
from pipeline.develop.saves import Project, Saves
from pipeline.develop.schema_updates import schema_texts
from pipeline.develop.services import Services
from pipeline.errors import PipelineError
from pipeline.process import Children
from pipeline.worker.processes import NEEDS_CURE

LOOK_S = 0.1
BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
CALM_S = 60.0  # services that have run so long start again without much delay
NAMES_MAX = 3
PUBLIC = (".command", ".event", ".state", ".row")  # topics that an author thinks of, unlike those of queues
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """The file of the project's settings. `changed`: what to say if they are others than at the start, else ""."""

    path: Path
    changed: Callable[[], str]


class Session:
    """Services, and the saves that start them anew. `started`: called once, with what the first process has done.

    `place`: the topology's file or package. `broker`: the local one, if it is that which is used.
    """

    def __init__(
        self,
        order: Order,
        project: Project,
        place: Path,
        children: Children,
        broker: LocalBroker | None,
        settings: Settings,
        say: Say,
        started: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._order, self._project, self._place, self._children = order, project, place.resolve(), children
        self._broker, self._settings, self._say, self._started = broker, settings, say, started
        self._loading: Services | None = None
        self._running: Services | None = None
        self._ready: Mapping[str, Any] = {}  # what the process that runs, or has run last, has said of itself
        self._asked_s = self._gone_on_s = 0.0  # when the present one was asked to load, and to run
        self._due_s: float | None = None  # when to start again, if services have ended by themselves
        self._deaths = 0
        self._has_served = self._is_refused = False
        self._saved_schemas: set[Path] = set()  # perhaps by a process of services

    def run(self) -> int:
        """Run until a signal comes. Return an exit code, or raise PipelineError, if nothing can be started."""
        saves = Saves(self._project)
        try:
            self._load()
            while (code := self._turn(saves.wait(LOOK_S))) is None:
                pass
            return code
        finally:
            if self._running is not None:
                self._say("stopping the services …")
            saves.close()
            for each in (self._loading, self._running):
                if each is not None:
                    each.stop()

    def _turn(self, changed: Sequence[Path]) -> int | None:
        if self._settings.path in changed and (what := self._settings.changed()):
            self._say(f"saved {self._shown(self._settings.path)}: {what}")
        if counting := sorted([*filter(self._counts, changed), *self._other_schemas(changed)]):
            names = ", ".join(map(self._shown, counting[:NAMES_MAX]))
            self._say(f"saved {names}" + (f" and {len(counting) - NAMES_MAX} more" * (len(counting) > NAMES_MAX)))
            self._deaths = 0
        if self._broker is not None and (address := self._broker.look()) not in (None, self._order.bootstrap):
            self._order = replace(self._order, bootstrap=str(address))
            self._load()
        if counting or (self._due_s is not None and time.monotonic() >= self._due_s):
            self._load()
        if self._loading is not None and (heard := self._loading.hear()):
            self._hear(self._loading, heard)
        return self._look() if self._running is not None else None

    def _counts(self, path: Path) -> bool:
        """Return whether the services may be made of a file of Python: one of the topology, or that it imports.

        What does not load may need any but tests, and so may what loads just now.
        """
        if path.suffix != ".py":
            return False
        if self._place in (path, path.parent) or str(path) in self._ready.get("files", ()):
            return True
        return (self._is_refused or self._loading is not None) and not self._project.is_test(path)

    def _other_schemas(self, changed: Sequence[Path]) -> list[Path]:
        """Return the files of schemas that were saved by others than the services, once these have loaded."""
        self._saved_schemas.update(path for path in changed if path.suffix in (".avsc", ".json"))
        if self._loading is not None or not self._saved_schemas:
            return []
        saved, self._saved_schemas = self._saved_schemas, set()
        if self._is_refused:
            return sorted(saved)
        known, now = self._ready["texts"], schema_texts(Path(self._ready["schemas"]))
        return [path for path in saved if known.get(key := os.path.realpath(path)) != now.get(key)]

    def _shown(self, path: Path) -> str:
        shown = next((path.relative_to(top) for top in self._project.tops if path.is_relative_to(top)), path)
        return str(shown) if path.exists() else f"{shown} (deleted)"

    # --- loading ------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Have a new process load what is there now; one that still loads has loaded what was there before."""
        if self._loading is not None:
            self._loading.stop()
        self._due_s, self._asked_s = None, time.monotonic()
        self._loading = Services(self._order, self._children)

    def _hear(self, loading: Services, heard: Mapping[str, Any]) -> None:
        if "refused" in heard:
            self._loading, self._is_refused = None, True
            loading.stop()
            self._refuse(heard)
            return
        self._is_refused = False
        self._tell(heard)
        if self._running is not None:
            self._running.stop()
        self._order = replace(self._order, left=heard["left"], fresh=False)
        self._ready, self._gone_on_s = heard, time.monotonic()
        self._loading, self._running = None, loading
        loading.go()

    def _refuse(self, heard: Mapping[str, Any]) -> None:
        if not (self._has_served or heard["by_save"]):
            raise PipelineError(heard["refused"])
        lines = [*heard["refused"].splitlines(), *heard.get("trace", "").splitlines()]
        if heard.get("schemas"):
            lines = ["records that were written before could not be read with the classes as they are now:", *lines]
            lines += self._ways_out(committed=heard["committed"], published=heard["published"])
        what = "not reloaded:" if self._has_served else "cannot start yet:"
        self._say("\n  ".join([what, *lines]))
        goes_on = "no services run" if self._running is None else "the services go on as they were"
        self._say(f"{goes_on}; correct it, and save again")

    def _ways_out(self, *, committed: bool, published: bool) -> list[str]:
        """Return what to do if the records of earlier versions are not worth keeping."""
        if published and not self._order.is_local:
            return [
                f"These versions are on the topic pipeline.schemas of {self._order.bootstrap}, and no longer in the",
                "manifest of the schemas; restore that from version control.",
            ]
        if self._order.is_local and not committed:
            return [
                f"Or begin anew, with Ctrl-C and then: pipeline dev {self._order.topology} --fresh",
                "It deletes the local broker's records, and versions of schemas that Git has no commit of.",
            ]
        return [
            f"Or, if no records of that version are left: pipeline schemas generate {self._order.topology}, then",
            "pipeline schemas register --force; it gives the earlier versions up.",
        ]

    def _tell(self, heard: Mapping[str, Any]) -> None:
        first = not self._ready
        files = [f"{topic}.avsc" for topic in heard["wrote"]]
        new = sorted(heard["created"], key=lambda topic: (not topic.endswith(PUBLIC), topic))
        for what, names in (("forgot earlier versions of", heard["forgot"]), ("wrote", files), ("created", new)):
            if names:
                more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
                self._say(f"{what} {', '.join(names[:NAMES_MAX])}{more}")
        for question in heard["questions"]:
            self._say(question)
        for each in heard["changed"]:
            self._say(self._folds_otherwise(**each))
        for topic in heard["left"] if first else ():
            self._say(
                f"left {topic}.avsc as it is: the classes fit it, and pipeline schemas generate would write another"
            )

    def _folds_otherwise(self, kind: str, name: str, number: int) -> str:
        """Return what to do about a table that holds what functions from before have made."""
        what, cure = {
            "aggregate": ("states", f"give the aggregate revision={number + 1}"),
            "projection": (
                "rows",
                f"declare it beside this one with version={number + 1} (replace(…)), save,\n"
                f"  then: pipeline projection switch {name} --topology {self._order.topology}",
            ),
            "replica": ("rows", "give the replica another name"),
        }[kind]
        lines = [
            f"the {kind} {name} folds otherwise now; {what} that are there stay as they were.",
            f"To have all anew: {cure}",
        ]
        if self._order.is_local:
            lines.append(f"or begin with nothing there: pipeline dev {self._order.topology} --fresh")
        return "\n  ".join(lines)

    # --- running ------------------------------------------------------------------------------------------------------

    def _look(self) -> int | None:
        """Look whether the services serve, and whether they have ended. Return an exit code if they cannot start."""
        assert self._running is not None
        heard, code = self._running.line.hear(0), self._running.ended()
        if heard and (url := heard.get("serving")):
            if not self._has_served:
                self._started(url, self._ready)
            else:
                self._say(f"reloaded in {time.monotonic() - self._asked_s:.1f} s")
            self._has_served = True
            self._order = replace(self._order, port=int(url.rpartition(":")[2]))
        if code is None:
            return None
        self._running.stop()
        self._running = None
        if code == NEEDS_CURE and not self._has_served:
            return code  # it has said why
        if self._loading is not None:
            return None  # which will run in their place
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        if code == NEEDS_CURE:
            self._say(f"the services have ended {how}; cure what they say, and save a file to start them again")
            return None
        self._deaths = 0 if time.monotonic() - self._gone_on_s > CALM_S else self._deaths + 1
        delay_s = BACKOFF_S[min(self._deaths, len(BACKOFF_S) - 1)]
        self._due_s = time.monotonic() + delay_s
        self._say(f"the services have ended {how}; they start again at the next save, or in {delay_s:.0f} s")
        return None
