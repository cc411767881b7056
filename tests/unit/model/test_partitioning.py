"""The partitioner, held to the values in Apache Kafka's own tests of Utils.murmur2."""

import pytest

from pipeline.model.records.partitioning import in_python, murmur2, partition_of

KNOWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), KNOWN.items())
def test_it_is_kafkas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


def test_a_partition_is_never_negative() -> None:
    assert partition_of(b"21", 7) == (-973932308 & 0x7FFFFFFF) % 7


@pytest.mark.parametrize("partitions", [1, 2, 7, 4096])
def test_the_extension_differs_in_nothing_but_speed(partitions: int) -> None:
    keys = [*KNOWN, *(bytes((n * m) % 256 for m in range(n)) for n in range(70)), b"\xff" * 9, "käse".encode()]
    for key in keys:
        assert partition_of(key, partitions) == in_python(key, partitions)


def test_what_is_no_key_is_refused_whoever_computes_it() -> None:
    for key, partitions in ((None, 4), ("anna", 4), (b"anna", 0)):
        with pytest.raises((TypeError, ValueError, ZeroDivisionError, AttributeError)):
            partition_of(key, partitions)  # type: ignore[arg-type]
