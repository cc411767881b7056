"""The search tells what is linearizable from what is not."""

import itertools
import random

from tests.helpers.linearizable import Operation, is_linearizable

OPEN = float("inf")


def check(*history: Operation) -> bool:
    return is_linearizable(history, 0, lambda state, amount: state + amount)


def test_reads_see_what_ended_before_them() -> None:
    assert check(Operation(0, 1, 5), Operation(2, 3, told=5))
    assert not check(Operation(0, 1, 5), Operation(2, 3, told=0))
    assert check(Operation(0, 4, 5), Operation(2, 3, told=0))
    assert check(Operation(0, 4, 5), Operation(2, 3, told=5))
    assert not check(Operation(0, 4, 5), Operation(1, 2, told=5), Operation(2.5, 3, told=0))
    assert not check(Operation(0, 1, 5), Operation(0, 1, 6), Operation(2, 3, told=5))


def test_what_nobody_saw_the_end_of_may_happen_later_or_never() -> None:
    assert check(Operation(0, OPEN, 5), Operation(10, 11, told=0), Operation(12, 13, told=5))
    assert check(Operation(0, OPEN, 5), Operation(10, 11, told=0))
    assert not check(Operation(0, OPEN, 5), Operation(10, 11, told=5), Operation(12, 13, told=0))


def test_it_agrees_with_trying_all_orders() -> None:
    rng = random.Random(7)
    verdicts = []
    for _ in range(400):
        history = []
        for n in range(5):
            began = rng.randrange(6)
            ended = began + rng.randrange(1, 4)
            history.append(Operation(began, ended, 1 << n) if n < 2 else Operation(began, ended, told=rng.randrange(4)))
        verdicts.append(check(*history))
        assert verdicts[-1] == any(fits(order) for order in itertools.permutations(history))
    assert 50 < sum(verdicts) < 350


def fits(order: tuple[Operation, ...]) -> bool:
    state = 0
    for n, each in enumerate(order):
        if any(later.ended < each.began for later in order[n + 1 :]):
            return False
        if each.write is not None:
            state += each.write
        elif each.told != state:
            return False
    return True
