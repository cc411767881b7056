"""A short share of `make fuzz-service`, with the same examples every time."""

from pathlib import Path

from tests.bank.traffic import BANK
from tests.fuzz import command_line, http, topologies
from tests.fuzz.__main__ import fuzzed
from tests.helpers.support import Shop


def test_topologies_of_random_types() -> None:
    fuzzed(topologies.cases(), topologies.check, 12, 1)


def test_random_command_lines(tmp_path: Path) -> None:
    with command_line.place(tmp_path):
        fuzzed(command_line.calls(), command_line.check, 150, 1)


def test_every_endpoint_of_the_bank(kafka: str, tmp_path: Path) -> None:
    bank = Shop(kafka, tmp_path, BANK)
    try:
        assert "verify" in http.one_round(bank, http.started(bank), 1, 1, lambda _: None)
    finally:
        bank.close()
