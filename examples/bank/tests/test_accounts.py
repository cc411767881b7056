"""The account: what it decides, and what it promises as a participant. No broker, no waiting."""

from __future__ import annotations

from decimal import Decimal

from bank.accounts import (
    Account,
    AccountOpened,
    BookEntry,
    DropEntry,
    EntryBooked,
    EntryDropped,
    EntryHeld,
    HoldEntry,
    OpenAccount,
    PaidIn,
    PaidOut,
    PayIn,
    PayOut,
    accounts,
)
from pipeline import Rejected
from pipeline.testing import given

TEN, THREE = Decimal("10.00"), Decimal("3.00")
OPEN = AccountOpened("Anna")
RICH = (OPEN, PaidIn(TEN, TEN))
HELD = EntryHeld("t1:out", "out", THREE, "to bert: rent")


def test_an_account_is_opened_once() -> None:
    given(accounts).when(OpenAccount("Anna")).then(OPEN).when(OpenAccount("Eve")).then(Rejected("already_open"))
    given(accounts).when(OpenAccount("")).then(Rejected("no_owner"))
    given(accounts).when(PayIn(TEN)).then(Rejected("no_such_account"))


def test_cash_comes_and_goes_and_each_event_says_the_balance_after_it() -> None:
    opened = given(accounts, OPEN)
    paid_in = opened.when(PayIn(TEN)).then(PaidIn(TEN, TEN))
    paid_in.when(PayOut(THREE)).then(PaidOut(THREE, Decimal("7.00"))).has(
        Account("Anna", Decimal("7.00"), cash=Decimal("7.00"))
    )
    paid_in.when(PayOut(Decimal("10.01"))).then(Rejected("not_enough", {"available": "10.00"}))
    paid_in.when(PayOut(Decimal("0.00"))).then(Rejected("bad_amount"))
    paid_in.when(PayIn(Decimal("-1.00"))).then(Rejected("bad_amount"))


def test_money_that_is_held_cannot_be_spent_again() -> None:
    account = given(accounts, *RICH).when(HoldEntry("t1:out", "out", THREE, "to bert: rent")).then(HELD)
    account.when(PayOut(Decimal("7.01"))).then(Rejected("not_enough", {"available": "7.00"}))
    account.when(HoldEntry("t2:out", "out", TEN, "")).then(Rejected("not_enough", {"available": "7.00"}))
    booked = EntryBooked("t1:out", "out", THREE, "to bert: rent", Decimal("7.00"))
    account.when(BookEntry("t1:out")).then(booked).when(PayOut(Decimal("7.01"))).then(Rejected("not_enough"))
    account.when(DropEntry("t1:out")).then(EntryDropped("t1:out")).when(PayOut(TEN)).then(PaidOut(TEN, Decimal("0.00")))


def test_money_that_is_to_come_cannot_be_spent_yet() -> None:
    account = given(accounts, OPEN, EntryHeld("t1:in", "in", THREE, "from eve: rent"))
    account.when(PayOut(THREE)).then(Rejected("not_enough", {"available": "0.00"}))
    booked = account.when(BookEntry("t1:in")).then(EntryBooked("t1:in", "in", THREE, "from eve: rent", THREE))
    booked.when(PayOut(THREE)).then(PaidOut(THREE, Decimal("0.00")))


def test_what_is_asked_again_or_too_late_changes_nothing() -> None:
    account = given(accounts, *RICH, HELD)
    account.when(HoldEntry("t1:out", "out", THREE, "to bert: rent")).then()
    account.when(BookEntry("t2:out")).then(Rejected("not_prepared"))
    booked = account.when(BookEntry("t1:out")).after()
    booked.when(BookEntry("t1:out")).then()
    booked.when(DropEntry("t1:out")).then(Rejected("already_committed"))
    dropped = given(accounts).when(DropEntry("t3:in")).then(EntryDropped("t3:in"))
    dropped.when(HoldEntry("t3:in", "in", THREE, "")).then(Rejected("already_aborted"))


def test_a_transfer_cannot_take_money_by_a_negative_amount() -> None:
    for side in ("out", "in"):
        given(accounts, *RICH).when(HoldEntry("t1", side, Decimal("-3.00"), "")).then(Rejected("bad_amount"))
