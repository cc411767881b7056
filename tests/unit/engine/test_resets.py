"""What a reset sets, and what it refuses, for each partition that a service has folded."""

import pytest

from pipeline.engine.ports import TP
from pipeline.engine.state.noted import Noted, Standing
from pipeline.engine.state.resets import losses, resets

SOURCE = TP("a.command", 0)
NOTED = Noted(50, Standing(("decide:a",), {"a.command": 1, "a.state": 2}))


@pytest.mark.parametrize("offset", [None, 0, 50, 70])
@pytest.mark.parametrize("bounds", [(0, 50), (50, 50), (10, 99)])
def test_the_target_is_where_the_service_stands_wherever_the_group_is(
    offset: int | None, bounds: tuple[int, int]
) -> None:
    [reset] = resets({SOURCE: NOTED}, {} if offset is None else {SOURCE: offset}, {SOURCE: bounds}, {"a.command": 1})
    assert (reset.offset, reset.target, reset.lost, reset.noted) == (offset, 50, "", NOTED)


@pytest.mark.parametrize(
    ("bounds", "identities", "target", "lost"),
    [
        ((51, 99), {}, 51, "its log begins at 51"),
        ((0, 49), {}, 0, "its log ends at 49"),
        ((0, 99), {"a.command": 7}, 0, "a.command has been deleted and created again"),
        ((0, 99), {"a.state": 7}, 50, "a.state has been deleted and created again"),
        ((3, 9), {"a.state": 7}, 3, "a.state has been deleted and created again"),
    ],
)
def test_what_the_logs_do_not_have_is_lost_and_named(
    bounds: tuple[int, int], identities: dict[str, int], target: int, lost: str
) -> None:
    found = resets({SOURCE: NOTED}, {}, {SOURCE: bounds}, NOTED.standing.topics | identities)
    assert losses(found) == [f"a.command-0 stands at 50, but {lost}"]
    [reset] = found
    assert (reset.target, reset.noted.offset) == (target, target)
    assert reset.noted.standing == Standing(("decide:a",), NOTED.standing.topics | identities)
