"""Commands and reads in the path functions of a FastAPI application; see docs/web.md."""

from pipeline.contrib.fastapi.clients import Clients
from pipeline.contrib.fastapi.dependencies import Commands, Queries, get_commands, get_queries
from pipeline.contrib.fastapi.streaming import event_stream
from pipeline.contrib.problems import Refused, accepted

__all__ = ["Clients", "Commands", "Queries", "Refused", "accepted", "event_stream", "get_commands", "get_queries"]
