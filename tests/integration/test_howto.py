"""The how-to pages that speak to a cluster, on real Kafka with the shop's workers."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline import Rejected
from tests.helpers.support import Shop, until
from topologies.reports import Customer
from topologies.users import NameChanged, User, UserRegistered

HOWTO = Path(__file__).parents[2] / "docs" / "howto"


@pytest.fixture(autouse=True)
def cluster(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `find_cluster` finds, and commands do."""
    monkeypatch.setenv("PIPELINE_BOOTSTRAP", shop.bootstrap)


def run_blocks(page: str) -> dict[str, Any]:
    """What the untitled blocks of a page define, one after the other."""
    found: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", (HOWTO / page).read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, page, "exec"), found)
    return found


def by_hand(shop: Shop, line: str) -> str:
    """The output of a line that a page shows, on this cluster."""
    words = shlex.split(line.partition(" #")[0])
    command = [sys.executable, "-m", *words, "--bootstrap", shop.bootstrap]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_pages_on_own_writes_and_on_audits_run(shop: Shop) -> None:
    worker = shop.worker()
    until("it serves", worker.addresses)
    found = run_blocks("own-writes.md")
    assert not isinstance(found["outcome"], Rejected)
    assert found["mine"].row == found["again"].row == Customer(registered=True, orders=0, spent=0, refunded=0)
    page = (HOWTO / "own-writes.md").read_text()
    (curl,) = re.findall(r"^    curl '(.*?)'$", page, re.MULTILINE)
    answer = httpx.get(curl.replace("http://127.0.0.1:6066", worker.addresses()[0]), timeout=30.0)
    assert (answer.status_code, "x-pipeline-position" in answer.headers) == (200, True), answer.text
    (query,) = re.findall(r"^    (pipeline query .*)$", page, re.MULTILINE)
    assert "nora" in by_hand(shop, query)

    found = run_blocks("audit.md")
    assert [past.event for past in found["past"]] == [UserRegistered("Ines", "Spain"), NameChanged("Inés")]
    assert found["then"].row == User("Ines", "Spain")
    lines = re.findall(r"^    (pipeline history .*)$", (HOWTO / "audit.md").read_text(), re.MULTILINE)
    (as_of,) = [line for line in lines if "--as-of 1 " in line]
    assert "Ines" in by_hand(shop, as_of.replace("anna", "ines"))
    (diff,) = [line for line in lines if "--diff" in line]
    assert "Inés" in by_hand(shop, diff.replace("anna", "ines"))
