"""Tables in a database, SQLite or PostgreSQL, with SQLAlchemy Core."""

from pipeline.adapters.sql.database import SqlDatabase, database_url
from pipeline.adapters.sql.store import SqlStore, SqlStores

__all__ = ["SqlDatabase", "SqlStore", "SqlStores", "database_url"]
