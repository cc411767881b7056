"""Where a topology is on disk, found without importing it: so a process that outlives its code can watch it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import TopologyError
from pipeline.topology import GIVE, is_path


def place_of(name: str, roots: Sequence[Path] = ()) -> Path:
    """Return the file or directory of a topology, named as for `load`. Raises TopologyError if there is none."""
    places = []
    if is_path(name):
        places = [Path(name)]
    elif all(part.isidentifier() for part in name.split(".")):
        first, *rest = name.split(".")
        tops = [(root / first) for root in roots or (Path.cwd(),)]
        if spec := find_spec(first):
            tops += map(Path, spec.submodule_search_locations or [str(spec.origin).removesuffix(".py")])
        places = [place for top in tops for place in (top.joinpath(*rest), _module(top.joinpath(*rest)))]
    for place in places:
        if place.exists():
            return place
    raise TopologyError(f"no topology {name!r} is here; {GIVE}")


def _module(place: Path) -> Path:
    return place.with_name(f"{place.name}.py")
