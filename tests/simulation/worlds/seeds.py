"""Which seeds a run of the tests takes: `SIMULATION_SEED` repeats the fresh ones of an earlier run."""

import os
import secrets

PER_TEST = 100
FRESH = int(os.environ.get("SIMULATION_SEED") or 1_000_000 + secrets.randbelow(10**9))
os.environ["SIMULATION_SEED"] = str(FRESH)  # processes that share the tests among them take the same
