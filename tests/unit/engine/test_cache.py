"""The cache of decoded rows: what was used lately is there, and it does not outgrow its bytes."""

from dataclasses import dataclass

import pytest

from pipeline.engine.state.cache import MISSING, ROWS_MIN, RowCache, deep_bytes


@dataclass(frozen=True, slots=True)
class Row:
    text: str
    parts: tuple[int, ...] = ()


def key(n: int) -> bytes:
    return b"%d" % n


def test_it_tells_a_row_a_missing_row_and_one_it_does_not_know() -> None:
    cache = RowCache(1 << 20)
    cache.update({b"a": Row("x"), b"b": None})
    assert cache.get(b"a") == Row("x")
    assert cache.get(b"b") is None
    assert cache.get(b"c") is MISSING
    cache.update({b"a": None})
    assert cache.get(b"a") is None


@pytest.mark.parametrize("length", [10, 1_000, 20_000])
def test_it_stays_within_its_bytes_however_large_the_rows(length: int) -> None:
    cache = RowCache(4 << 20)
    for n in range(0, 40_000_000 // (length + 300), 50):
        cache.update({key(m): Row("x" * length) for m in range(n, n + 50)})
        assert cache.kept_bytes <= (4 << 20) + 51 * (length + 400)
    assert cache.kept_bytes > 1 << 20


def test_rows_in_use_outlive_those_that_are_not() -> None:
    cache = RowCache(1 << 20)
    cache.update({b"used": Row("x"), b"unused": Row("x")})
    for n in range(20_000):
        cache.update({key(n): Row("x")})
        assert cache.get(b"used") == Row("x")
    assert cache.get(b"unused") is MISSING


def test_a_new_value_is_never_hidden_by_an_old_one() -> None:
    cache = RowCache(0)  # the least there is: generations change all the time
    for n in range(10 * ROWS_MIN):
        cache.update({key(n % 7): Row(str(n)), key(1_000 + n): None})
        assert cache.get(key(n % 7)) == Row(str(n))


def test_a_smaller_limit_is_kept_from_the_next_update_on() -> None:
    cache = RowCache(64 << 20)
    for n in range(20_000):
        cache.update({key(n): Row("x")})
    before = cache.kept_bytes
    cache.limit(before // 4)
    for n in range(20_000, 20_000 + before // 300):
        cache.update({key(n): Row("x")})
    assert cache.kept_bytes <= before // 4 + 1_000


def test_bytes_are_those_of_all_that_is_in_a_row() -> None:
    assert deep_bytes(Row("x" * 1_000, (2**40,) * 10)) > 1_000 + 10 * 28
    assert deep_bytes({"a": [1, 2]}) > deep_bytes({}) + deep_bytes("a") + deep_bytes([])
