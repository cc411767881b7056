"""Faults between workers and brokers, and of brokers themselves."""

from __future__ import annotations

import time

from tests.faults.harness.proxy import END_TXN
from tests.faults.round import Round


def cuts(round_: Round, times: int) -> None:
    """The way to the broker is cut, or holds everything back, or loses the answer to a commit; then it heals.

    The time to recover counts from the healing.
    """
    steps = []
    for n in range(times):
        way = ("cut", "hold", "lose the answer to a commit")[n % 3]
        steps.append((way, round(round_.rng.choice([0.3, 1.0, 3.0, 8.0]) * round_.rng.uniform(0.8, 1.2), 1)))
    round_.schedule(steps)
    round_.begin("", "")
    proxy = round_.cluster.nodes[0].proxy
    for way, seconds in steps:
        if way.startswith("lose"):
            proxy.lose_answer(END_TXN)
            round_.fleet.until("an answer is lost", proxy.lost.is_set)
            at = time.time()
        else:
            before = proxy.resets, proxy.held
            proxy.cut() if way == "cut" else proxy.hold()
            round_.pass_time(seconds)
            proxy.heal()
            at = time.time()
            after = proxy.resets, proxy.held
            assert after[way == "hold"] > before[way == "hold"], f"nothing was in the way of {way!r}"
        round_.injected(at)


def brokers(round_: Round, times: int) -> None:
    """Of three brokers one is killed, or stands still, or both happen to two of them at once; then they are back.

    Where two of three are away, nothing can be committed: the time to recover counts from when one is back.
    """
    steps = []
    for n in range(times):
        first, second = round_.rng.sample(range(3), 2)
        steps.append((("kill", "pause", "kill and pause")[n % 3], first, second, round(round_.rng.uniform(5, 7), 1)))
    round_.schedule(steps)
    round_.begin("", "")
    cluster = round_.cluster
    for way, first, second, seconds in steps:
        node, other = cluster.nodes[first], cluster.nodes[second]
        at = time.time()
        if way == "pause":
            node.pause()
            round_.injected(at)
            round_.pass_time(max(0.0, at + seconds - time.time()))
            node.resume()
        else:
            node.kill()
            if way == "kill and pause":
                other.pause()
                round_.pass_time(seconds)
                other.resume()
                at = time.time()
            round_.injected(at)
            node.start()
            node.wait()
        cluster.wait_until_whole()
