"""A projection in SQL has its next version built beside it, in the same database, while workers go on."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.topics import delete_services
from pipeline.client import Client
from pipeline.client.queries import QueryClient
from pipeline.topology import load
from tests.helpers import accounts as a
from tests.helpers.support import Shop, Worker

CODE = """
from dataclasses import replace
from pipeline import Database, Projection, Service
from tests.helpers import accounts as a

def twice(account, event):
    return a.Account(account.balance + 2 * event.amount)

balances = Projection("balances", [a.FIRST.events], a.Account(), a.evolve, database=Database.SQLITE)
later = replace(balances, evolve=twice, version=2)
service = Service("bank", aggregates=[a.FIRST], projections={})
"""


def test_both_versions_are_tables_of_one_database(kafka: str, tmp_path: Path) -> None:
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    for name, projections in (("first", "[balances]"), ("both", "[balances, later]")):
        (tmp_path / f"{name}.py").write_text(CODE.format(projections))
    first, both = (load(str(tmp_path / f"{name}.py"), schemas) for name in ("first", "both"))
    for each in schema_files(both.services.values(), schemas):
        each.path.write_text(each.text)
    Registry(schemas).register()
    shop = Shop(kafka, tmp_path, both, partitions=2)
    delete_services(admin(kafka), [plan for plan in shop.plans if plan.service.part_of])
    where = ("--bootstrap", kafka, "--schemas", str(schemas))
    try:
        shop._workers.append(Worker(tmp_path, str(tmp_path / "first.py"), *where))
        with Client(kafka, first) as client:
            for key in a.KEYS:
                client.send("accounts", key, a.Pay(10))
            client.flush()
        shop.settle("bank")
        command = [
            sys.executable,
            "-m",
            "pipeline",
            "projection",
            "rebuild",
            "balances",
            "--json",
            "--home",
            str(tmp_path),
        ]
        command += ["--topology", str(tmp_path / "both.py"), *where]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
        assert (told["version"], told["readers_get"], told["differences"]["changed"]) == (2, 1, len(a.KEYS))
        database = sqlite3.connect(tmp_path / "state" / "bank" / "bank.sqlite")
        for table, balance in (("balances", 10), ("balances_v2", 20)):
            rows = database.execute(f"SELECT row_key, balance FROM {table} ORDER BY row_key").fetchall()
            assert rows == [(key, balance) for key in a.KEYS]
        database.close()
        shop._workers.append(Worker(tmp_path, str(tmp_path / "both.py"), *where))
        with QueryClient(kafka, both, 60) as client:
            assert client.get("balances_v2", a.KEYS[0])["row"] == {"balance": 20}
    finally:
        shop.close()
