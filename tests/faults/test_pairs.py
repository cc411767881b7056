"""What was written is read in another service, of any worker and over a near cache, while workers are restarted."""

import asyncio

import pytest

from tests.faults.harness.unrest import STRIKES, Unrest
from tests.faults.runs.pairs import SERVICES, pairs_of
from tests.helpers.support import Shop

pytestmark = pytest.mark.long

PAIRS, RESTARTS, LIMIT_S = 10_000, 12, 900.0


def test_no_read_is_stale_while_workers_are_restarted(shop: Shop) -> None:
    with Unrest(shop, SERVICES, 20091201) as unrest:
        result = asyncio.run(asyncio.wait_for(pairs_of(shop, unrest, PAIRS, RESTARTS), LIMIT_S))
    plain, near = result.ways.values()
    assert [*plain.stale, *plain.too_many, *near.stale, *near.too_many] == []
    assert plain.pairs + near.pairs >= PAIRS
    assert set(result.struck) == set(STRIKES)
    assert near.hits > near.pairs / 2
    assert plain.again, "no read has met a worker that was away"
    assert result.control.stale, "eventual reads were not stale either, so nothing was to be seen"
