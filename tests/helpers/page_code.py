"""Runs the code of a page of the documentation as the project that a reader makes of it.

A block whose fence has a title, as in ```python title="shop/accounts.py", is that file of the project, or its next
part. A page that begins with the project of another one says so: <!-- continues saga.md -->.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.topology import load

TITLED = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
CONTINUES = re.compile(r"<!-- continues (\S+) -->")
PACKAGE = "shop"


def files_of(page: Path) -> dict[str, str]:
    """The files of a page's project, by path."""
    text = page.read_text()
    begun = CONTINUES.search(text)
    files = files_of(page.parent / begun[1]) if begun else {}
    own: dict[str, str] = {}
    for path, code in TITLED.findall(text):
        own[path] = f"{own[path]}\n\n{code}" if path in own else code
    return files | own


@contextmanager
def project_of(page: Path, folder: Path) -> Iterator[None]:
    """Write the project of a page to an empty folder, with its schemas, and be in it."""
    for path, code in files_of(page).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(code)
    (folder / PACKAGE / "__init__.py").touch()
    before = sys.path[:]
    with chdir(folder):
        try:
            topology = load(PACKAGE, roots=[folder])
            for schema in schema_files(topology.services.values(), topology.schemas):
                schema.path.parent.mkdir(exist_ok=True)
                schema.path.write_text(schema.text)
            Registry(topology.schemas).register()
            yield
        finally:
            sys.path[:] = before
            for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
                del sys.modules[name]


def run_tests() -> list[str]:
    """Run the tests of the project that one is in. Return their names."""
    names = []
    for path in sorted(Path("tests").glob("test_*.py")):
        spec = importlib.util.spec_from_file_location(f"{PACKAGE}.{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, test in vars(module).items():
            if name.startswith("test_"):
                test()
                names.append(name)
    return names
