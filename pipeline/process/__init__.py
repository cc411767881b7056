"""A process and those it starts: child processes that end with their parent, signals that end a process in order."""

from pipeline.process.children import Children
from pipeline.process.signals import Ended, orderly_end

__all__ = ["Children", "Ended", "orderly_end"]
