"""The history checker: proves from the logs and the tables alone that every record has had its effect exactly once.

It shares the topology's own functions and the pure steps of `flow` with the engine, and nothing of what runs them:
records are read by plain consumers, decoded by fastavro and replayed here, tables are read over HTTP.
"""

from pipeline.verify.report import Finding, Report
from pipeline.verify.run import Judge, judge, verify
from pipeline.verify.sources.history import Entry, History

__all__ = ["Entry", "Finding", "History", "Judge", "Report", "judge", "verify"]
