"""What a backup is made of: points, files that follow one another, runs and gaps; a place that notices damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.kafka.exact.writing import FILL, RUN, Written, parts
from pipeline.adapters.vault import PART, Vault, digest_of
from pipeline.backup.points import LogFile, Point, Topic, chained, numbers, read_point
from pipeline.errors import BackupError

offsets = st.sets(st.integers(0, 300)).map(sorted)


def record(offset: int) -> Written:
    return Written(offset, b"k", b"v", 1, ())


@given(offsets, st.integers(0, 60))
def test_each_offset_is_in_one_run_or_gap(there: list[int], more: int) -> None:
    end = (there[-1] + 1 if there else 0) + more
    at, found = 0, []
    for part in parts(map(record, there), end):
        assert bool(part.records) != bool(part.gap)
        for each in part.records:
            assert each.offset == at
            found.append(at)
            at += 1
        at += part.gap
    assert (found, at) == (there, end)


def test_runs_and_gaps_are_bounded() -> None:
    made = list(parts(map(record, range(RUN + 1)), RUN + 1 + FILL + 7))
    assert [(len(part.records), part.gap) for part in made] == [(RUN, 0), (1, 0), (0, FILL), (0, 7)]


def log_file(first: int, end: int, partition: int = 0) -> LogFile:
    return LogFile("users.event", "1f", partition, first, end, end - first, "a" * 64)


def test_the_name_of_a_file_says_what_it_has() -> None:
    assert LogFile.parse(log_file(3, 17).name) == log_file(3, 17)
    assert LogFile.parse("logs/users.event/1f/0/3-17.avro") is None


def test_files_that_a_killed_backup_has_left_are_taken_over_as_far_as_they_follow_one_another() -> None:
    left = [log_file(20, 30), log_file(0, 10), log_file(10, 20), log_file(40, 50)]
    assert chained(left, 10) == [log_file(10, 20), log_file(20, 30)]
    assert chained(left, 5) == []


def point(number: int, *names: str) -> Point:
    topics = {"users.event": Topic("1f", 1, {})}
    return Point(
        number, 1, "c", "shop", topics, {"users.event/0": 0}, {"users.event/0": 9}, {"users.event/0": list(names)}
    )


def test_points_are_read_by_their_number(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path / "backup"))
    with pytest.raises(BackupError, match=r"has no point.*pipeline backup logs TOPOLOGY --to"):
        read_point(vault)
    for number in (1, 2):
        made = point(number, log_file(0, 9).name)
        made.committed["users"] = {"users.command/0": (4, "in:1")}
        vault.write_json(made.name, made.json(), tmp_path)
    assert numbers(vault) == [1, 2]
    assert read_point(vault).number == 2
    assert read_point(vault, 1) == made.__class__(**{**vars(made), "number": 1})
    assert read_point(vault).records == 9
    with pytest.raises(BackupError, match="has the points 1 to 2"):
        read_point(vault, 3)


def test_files_that_overlap_are_refused() -> None:
    with pytest.raises(BackupError, match=r"damaged in users\.event/0"):
        point(1, log_file(0, 9).name, log_file(5, 12).name).log_files("users.event/0")


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    vault, source = Vault(str(tmp_path / "backup")), tmp_path / "source"
    source.write_bytes(b"some records")
    digest = digest_of(source)
    vault.put(source, "logs/one")
    assert vault.get("logs/one", tmp_path / "back", digest).read_bytes() == b"some records"
    stored = tmp_path / "backup" / "logs" / "one"
    stored.write_bytes(b"some recordz")
    with pytest.raises(BackupError, match=r"logs/one is damaged: its digest is not"):
        vault.get("logs/one", tmp_path / "back", digest)
    stored.unlink()
    with pytest.raises(BackupError, match="has no logs/one"):
        vault.get("logs/one", tmp_path / "back", digest)


def test_a_file_that_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / f"half{PART}").write_bytes(b"x")
    assert vault.names("logs") == []
    assert vault.names("nothing") == []


def test_a_store_that_needs_a_package_says_which() -> None:
    with pytest.raises(BackupError, match="names no place for backups"):
        Vault("nosuch://bucket/folder")
