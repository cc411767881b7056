"""What the short suite asks of each round."""

from tests.faults.round import Round

SEED = 20091201


def judge(round_: Round, faults: int) -> None:
    assert not round_.result.damage, f"{round_.result.damage}\n{round_.result.notes}\nkept: {round_.home}"
    assert round_.result.injected >= faults
    assert round_.result.sent > 50
