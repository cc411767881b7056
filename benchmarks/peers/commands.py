"""Commands for the accounts: the same sequence each time for the same arguments."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from itertools import accumulate

from benchmarks.peers.accounts import Command

BEGIN_MS = 1_760_000_000_000
SEED = 7


def commands(count: int, keys: int, *, zipf: float = 0.0, padding: int = 0) -> Iterator[Command]:
    """`count` commands over that many accounts, chosen evenly or, with `zipf` as exponent, by rank.

    An account's first command opens it; after that, six of ten are deposits. Keys have `padding` bytes more, which
    makes commands, events and states longer.
    """
    rng = random.Random(SEED)
    filler = "x" * padding
    if zipf:
        weights = list(accumulate((rank + 1) ** -zipf for rank in range(keys)))
        chosen: Iterator[int] = iter(rng.choices(range(keys), cum_weights=weights, k=count))
    else:
        chosen = (rng.randrange(keys) for _ in range(count))
    opened = bytearray(keys)
    for n, account in enumerate(chosen):
        kind = "open" if not opened[account] else "deposit" if rng.random() < 0.6 else "withdraw"
        opened[account] = 1
        command_id = str(uuid.UUID(int=rng.getrandbits(128), version=4)) + filler
        yield Command(command_id, f"acct-{account:08d}", kind, rng.randrange(1, 10_000), BEGIN_MS + n)
