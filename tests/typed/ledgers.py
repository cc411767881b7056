"""The ledgers service: follows accounts, into a table of an SQL database."""

from __future__ import annotations

from pipeline import Database, Projection, Service, Source
from tests.typed.accounts import NOBODY, Opened, hold

ledgers = Projection("ledgers", (Source("accounts.event", Opened),), NOBODY, hold, database=Database.SQLITE)
service = Service("ledgers", projections=(ledgers,))
