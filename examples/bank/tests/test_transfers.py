"""Both kinds of transfer, message by message, and what they ask of accounts."""

from __future__ import annotations

from decimal import Decimal

from bank import transfers_2pc as two
from bank import transfers_saga as one
from pipeline.model import Ask
from pipeline.testing import accepted, given_saga, rejected

RENT = Decimal("450.00")
BY_SAGA = given_saga(one.transfers_saga, one.BeginTransfer("anna", "bert", RENT, "rent"), key="t1")
BY_2PC = given_saga(two.transfers_2pc, two.BeginTransfer("anna", "bert", RENT, "rent"), key="t1")


def test_a_saga_asks_the_payer_then_the_payee_then_books() -> None:
    begun = given_saga(one.transfers_saga, key="t1").when(one.BeginTransfer("anna", "bert", RENT, "rent"))
    held = begun.then(Ask("payer.0", "accounts", "anna", one.HoldEntry("t1:out", "out", RENT, "to bert: rent"), 1))
    asked = held.when(accepted("payer.0")).then(
        Ask("payee.0", "accounts", "bert", one.HoldEntry("t1:in", "in", RENT, "from anna: rent"), 1)
    )
    booking = asked.when(accepted("payee.0")).then("book.0", "book.1")
    booking.when(accepted("book.0")).then().when(accepted("book.1")).then().is_at("done")


def test_a_saga_lets_the_payers_money_go_if_the_payee_has_no_account() -> None:
    refused = BY_SAGA.when(accepted("payer.0")).after().when(rejected("payee.0", "no_such_account"))
    undoing = refused.then(Ask("undo-payer.0", "accounts", "anna", one.DropEntry("t1:out"), 1))
    undoing.when(accepted("undo-payer.0")).then().is_at("undone", "no_such_account")


def test_a_saga_that_gets_no_money_asks_nobody_else() -> None:
    BY_SAGA.when(rejected("payer.0", "not_enough")).then().is_at("undone", "not_enough")


def test_a_two_phase_commit_asks_both_at_once_and_books_when_both_have_voted() -> None:
    begun = given_saga(two.transfers_2pc, key="t1").when(two.BeginTransfer("anna", "bert", RENT, "rent"))
    voting = begun.then("prepare-1.0", "prepare-1.1").when(accepted("prepare-1.1")).then()
    committing = voting.when(accepted("prepare-1.0")).then(
        Ask("commit-1.0", "accounts", "anna", two.BookEntry("t1:out/1"), 1),
        Ask("commit-1.1", "accounts", "bert", two.BookEntry("t1:in/1"), 1),
    )
    committing.when(accepted("commit-1.0")).then().when(accepted("commit-1.1")).then().is_at("done")


def test_a_two_phase_commit_aborts_both_if_one_refuses() -> None:
    aborting = BY_2PC.when(rejected("prepare-1.1", "no_such_account")).then("abort-1.0", "abort-1.1")
    aborted = aborting.when(accepted("abort-1.0")).then().when(accepted("abort-1.1")).then()
    aborted.is_at("undone", "no_such_account")
