"""Clients of one web request, so that a page reads its own writes: each write's position travels with the browser."""

from pipeline.contrib.own_writes.logs import Logs
from pipeline.contrib.own_writes.positions import HEADER, OwnWrites, set_cookie

__all__ = ["HEADER", "Logs", "OwnWrites", "set_cookie"]
