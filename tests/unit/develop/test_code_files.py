"""The files that a topology is made of: what is loaded, and what its code imports later."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.develop.code.files import files_of_topology
from pipeline.topology import load

FILES = {
    "shop/__init__.py": "",
    "shop/users.py": "from pipeline import Service\nimport money\nservice = Service('users')\n\ndef late():\n"
    "    from .inner import rules\n    import later as x\n    return rules, x, __import__('json')\n",
    "shop/inner/__init__.py": "",
    "shop/inner/rules.py": "from shop import other_inner\n",
    "shop/other_inner.py": "",
    "money.py": "",
    "later.py": "from latest.most import thing\nfrom .... import nothing\n",
    "latest/most.py": "import money\n",
    "demo.py": "import shop.users\n",
    "tests/test_users.py": "import shop.users\n",
    ".venv/lib/site-packages/later.py": "import demo\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), str(tmp_path / ".venv/lib/site-packages"), *sys.path])
    before = set(sys.modules)
    yield tmp_path.resolve()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_what_is_imported_now_or_later_counts_and_nothing_else(project: Path) -> None:
    load("shop")
    found = {str(Path(file).relative_to(project)) for file in files_of_topology([str(project)])}
    assert found == set(FILES) - {"demo.py", "tests/test_users.py", ".venv/lib/site-packages/later.py"}


def test_a_file_that_cannot_be_parsed_any_more_ends_nothing(project: Path) -> None:
    load("shop")
    (project / "shop" / "users.py").write_text("def")
    assert str(project / "money.py") in files_of_topology([str(project)])
