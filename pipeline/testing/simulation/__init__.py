"""A world in memory: the engine itself on a simulated broker, with a virtual clock and a seeded scheduler.

`Simulation` makes a history from a seed, faults included, and checks it. `TestDriver` is for tests of a topology: no
faults, one call after another. Needs greenlet (the extra `testing`): a lane is plain synchronous code, and only a
greenlet can be suspended at any of its calls, and resumed there, without a thread.
"""

from pipeline.testing.simulation.driver import TestDriver
from pipeline.testing.simulation.schedule import Fault, Operation, Schedule, Sent, from_seed
from pipeline.testing.simulation.shrink import shrink
from pipeline.testing.simulation.simulation import History, Simulation

__all__ = ["Fault", "History", "Operation", "Schedule", "Sent", "Simulation", "TestDriver", "from_seed", "shrink"]
