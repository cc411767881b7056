"""Many buyers at once: `python -m tickets.buyers hamlet 30`. Some hold a seat and walk away.

Each opens a booking, tries seats until it holds one, thinks, and buys it or does not. What came of it is counted.
"""

from __future__ import annotations

import asyncio
import random
import string
import sys
from collections import Counter

from pipeline import AsyncClient, AsyncQueryClient, Rejected, find_cluster
from pipeline.errors import PipelineError
from tickets.bookings import OpenBooking, bookings
from tickets.halls import seat_map
from tickets.seats import BuySeat, HoldSeat, seats

SIGNS = string.ascii_uppercase + string.digits
HOLD_S, WAIT_S = 8, 30
TRIES = 20


async def open_booking(client: AsyncClient, booking: str, name: str) -> str:
    """Return the reference: one that is taken is made up anew."""
    while True:
        reference = "".join(random.choices(SIGNS, k=6))
        outcome = await client.send(bookings, booking, OpenBooking(name, reference), wait=WAIT_S)
        if not (isinstance(outcome, Rejected) and outcome.reason == "taken"):
            return reference


async def buy(client: AsyncClient, show: str, hall: list[str], number: int) -> Counter[str]:
    """One buyer, from the first look at the hall to the end."""
    booking, told = f"{show}-{number}-{random.randrange(10**9)}", Counter[str]()
    await open_booking(client, booking, f"buyer {number}")
    for seat in random.choices(hall, k=TRIES):
        key = f"{show}:{seat}"
        held = await client.send(seats, key, HoldSeat(booking, HOLD_S), wait=WAIT_S)
        if isinstance(held, Rejected):
            told[f"refused: {held.reason}"] += 1
            continue
        await asyncio.sleep(random.uniform(0.5, 4))
        if random.random() < 0.3:
            told["walked away"] += 1
        else:
            bought = await client.send(seats, key, BuySeat(booking), wait=WAIT_S)
            told["too late" if isinstance(bought, Rejected) else "bought a seat"] += 1
        return told
    told["found none"] += 1
    return told


async def main(show: str, buyers: int) -> None:
    """Let all buyers come within some seconds."""
    cluster = find_cluster()
    async with AsyncQueryClient(cluster.address, cluster.topology, patience_s=30) as query:
        hall = list((await query.get(seat_map, show)).row.seats)
    async with AsyncClient(cluster.address, cluster.topology, name="buyers") as client:
        told = await asyncio.gather(*(buy(client, show, hall, number) for number in range(buyers)))
    for what, times in sorted(sum(told, Counter[str]()).items()):
        print(f"{times:>5}  {what}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        asyncio.run(main(sys.argv[1], int(sys.argv[2])))
    except PipelineError as error:
        sys.exit(f"error: {error}")
