"""The database of one service: connections, what its errors mean, and the engine's own tables in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection

from pipeline.adapters import descriptors
from pipeline.adapters.descriptors import cure
from pipeline.errors import DatabaseUnreachable, DatabaseUnusable, OutOfDescriptors, PipelineError, StoreDamaged

CONNECT_S = 5
# A worker that hangs within a transaction must not block a take-over. The last commits may be lost with the server's
# memory, rows and positions together; as with a local table, the row topic has them.
POSTGRES = {
    "connect_timeout": CONNECT_S,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "kafka-pipeline",
    "options": "-c idle_in_transaction_session_timeout=5s -c lock_timeout=10s -c statement_timeout=60s "
    "-c synchronous_commit=off -c timezone=UTC",
}
SQLITE_BUSY_S = 10.0
SQLITE_FILES = 5  # for a connection: the database, its log, its index, a journal, and a temporary file
SQLITE_CURES = {
    sqlite3.SQLITE_FULL: "free some space, nothing is lost",
    **dict.fromkeys(
        (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB),
        "it is damaged: stop its workers and delete it, it is made again from Kafka",
    ),
}
LOCK = 0x70697065  # a lock in PostgreSQL, held while tables are created

METADATA = sa.MetaData()
OWNER = sa.Table("pipeline_owner", METADATA, sa.Column("service", sa.Text, nullable=False))
POSITIONS = sa.Table(
    "pipeline_positions",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("positions", sa.Text, nullable=False),
)
# Rows of tasks beside their tables. `head`: the first bytes of a key, as many as an index takes; `rest`: the others.
PLAIN = sa.Table(
    "pipeline_rows",
    METADATA,
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("head", sa.LargeBinary, nullable=False),
    sa.Column("rest", sa.LargeBinary, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Index("pipeline_rows_by_head", "source", "partition", "head"),
)


def database_url(text: str) -> sa.URL:
    """Parse `--database`: postgresql://user@host/name or sqlite:///path. Raises DatabaseUnusable."""
    try:
        url = sa.make_url(text)
    except SQLAlchemyError:
        raise DatabaseUnusable(f"{text!r} is no database; give postgresql://user@host/name or sqlite:///path") from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("postgresql+psycopg", "sqlite") or not url.database:
        raise DatabaseUnusable(f"{url} is not a usable database; give postgresql://user@host/name or sqlite:///path")
    return url


class SqlDatabase:
    """Connects on first use. Safe to use from any thread."""

    def __init__(self, service: str, url: sa.URL) -> None:
        self.service, self.name = service, str(url)  # without the password
        self.is_sqlite = url.drivername == "sqlite"
        if self.is_sqlite:
            assert url.database is not None
            path = Path(url.database)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DatabaseUnusable(f"cannot create {path.parent}: {error.strerror}") from error
            connecting: dict[str, Any] = {"timeout": SQLITE_BUSY_S, "check_same_thread": False, "isolation_level": None}
        else:
            connecting = POSTGRES
        try:
            self._engine = sa.create_engine(
                url, connect_args=connecting, poolclass=sa.QueuePool, max_overflow=20, pool_timeout=CONNECT_S
            )
        except ModuleNotFoundError as error:
            raise DatabaseUnusable(
                f"{self.name} needs the package {error.name}; install it with: pip install 'kafka-pipeline[postgres]'"
            ) from None
        if self.is_sqlite:
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection for single statements."""
        with self._told(), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Yield a connection in a transaction."""
        with self._told(), self._engine.begin() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def claim(self, connection: sa.Connection) -> None:
        """Create the engine's own tables, once. No other worker creates tables until the transaction ends.

        Raises DatabaseUnusable if another service owns the database.
        """
        if not self.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        METADATA.create_all(connection)
        owner = connection.execute(sa.select(OWNER.c.service)).scalar()
        if owner is None:
            connection.execute(sa.insert(OWNER).values(service=self.service))
        elif owner != self.service:
            raise DatabaseUnusable(
                f"the database {self.name} belongs to the service {owner!r}; give {self.service!r} one of its own"
            )

    def check(self) -> None:
        """Raise DatabaseUnreachable or DatabaseUnusable if the database cannot be used."""
        with self.transaction() as connection:
            self.claim(connection)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except NoConnection as error:
            raise DatabaseUnreachable(f"the database {self.name} is too busy: {error}") from error
        except SQLAlchemyError as error:
            raise self._meaning(error) from error

    def _meaning(self, error: SQLAlchemyError) -> PipelineError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        why = " ".join(str(cause).split())[:300]
        # SQLite does not say why it cannot open a file, and a server's message may be about its own files.
        could_not_open = isinstance(cause, sqlite3.Error) or descriptors.exhausted(why)
        if could_not_open and descriptors.fewer_left_than(SQLITE_FILES):
            return OutOfDescriptors(f"no more files can be opened for the database {self.name}: {why}; {cure()}")
        if isinstance(cause, sqlite3.Error):
            code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return DatabaseUnreachable(f"the database {self.name} is locked by another process: {why}")
            if "no such table" in why or "no such column" in why:
                return StoreDamaged(f"a table is missing in the database {self.name}: {why}")
            help_ = SQLITE_CURES.get(code, "check that its directory exists and this user may read and write there")
            return DatabaseUnusable(f"the database {self.name}: {why}; {help_}")
        if getattr(cause, "sqlstate", None) in ("42P01", "42703"):
            return StoreDamaged(f"a table is missing in the database {self.name}: {why}")
        if isinstance(error, (OperationalError, InterfaceError)) or getattr(error, "connection_invalidated", False):
            return DatabaseUnreachable(f"the database {self.name} does not answer: {why}")
        return DatabaseUnusable(f"the database {self.name} refuses a statement of the engine: {why}")


def _prepare_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    # Readers run beside a writer. The file stays whole; the last writes may be lost if the machine crashes.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
