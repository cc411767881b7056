"""What a lane counts: the largest value of the last while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.stats import LargestLately

WINDOW_S = 10


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 3)), max_size=60))
def test_the_largest_is_that_of_the_window(steps: list[tuple[int, int]]) -> None:
    largest, now, came = LargestLately(WINDOW_S), 0, []
    for pause, value in steps:
        now += pause
        came.append((now, value))
        assert largest.add(now, value) == max(value for at, value in came if at >= now - WINDOW_S)
