"""The short version of `make checkouts`: some hundred invoices, each service killed in its turn, by both checkouts."""

from fractions import Fraction
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.demo.commands import Way
from pipeline.demo.invoices import read_invoices
from pipeline.demo.run import SHIPPED
from tests.faults.runs.checkouts import carry_through, first
from topologies.orders import CHECKOUTS

pytestmark = pytest.mark.long

INVOICES = 300
DECISIVE = 4  # those who decide or take part, which are killed first


@pytest.mark.parametrize("checkout", CHECKOUTS)
def test_real_invoices_come_right_though_every_service_is_killed(kafka: str, tmp_path: Path, checkout: str) -> None:
    way = Way(checkout, Fraction("0.7"), 2_000_000)
    invoices = first(read_invoices(SHIPPED), INVOICES)
    result = carry_through(kafka, tmp_path, invoices, way, Console(width=120), turns=1, every_s=0.5)
    assert result["wrong"] == []
    assert result["in_flight"] == 0
    assert {kill["service"] for kill in result["kills"]} >= {f"checkout_{checkout}", "inventory", "payments", "orders"}
    assert len(result["kills"]) >= DECISIVE
    orders = result["orders"]
    assert orders["confirmed"] + orders["refused"] == orders["placed"] > INVOICES / 2
    assert orders["refused"] > 0
