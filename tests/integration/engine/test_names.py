"""Two workers of one name: the second is refused, in one line, before it has taken anything from the first."""

from __future__ import annotations

from pathlib import Path

from pipeline.demo.commands import stocking
from pipeline.demo.invoices import Invoices
from tests.helpers.support import Shop, Worker, until


def test_a_second_worker_of_one_name_in_another_home_is_refused(shop: Shop, invoices: Invoices, tmp_path: Path) -> None:
    place = ("topologies", "--bootstrap", shop.bootstrap, "--service", "inventory", "--node", "same", "--slot", "0")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    first = shop.worker("--service", "inventory", "--node", "same", "--slot", "0")
    until("it serves", first.addresses)
    shop.send(stocking(invoices))
    with shop.watcher("inventory") as watcher:
        until("it has folded", lambda: watcher.look()[1])

    second = Worker(elsewhere, *place)
    try:
        assert second.process.wait(60) == 2
    finally:
        second.end()
    last = second.log.read_text().splitlines()[-1]
    assert last.startswith("error: another worker is in the group as 'inventory-same-0'")
    assert "--node" in last
    assert "Traceback" not in second.log.read_text()
    assert first.process.poll() is None
    assert "fenced" not in first.log.read_text()

    first.kill()
    heir = Worker(elsewhere, *place)
    try:
        until("the remains of the first are waited for, then it serves", heir.addresses)
    finally:
        heir.end()
