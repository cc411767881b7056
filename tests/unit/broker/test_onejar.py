"""Kafka's jars in one."""

import zipfile
from pathlib import Path

from pipeline.broker.onejar import one_jar


def jar(path: Path, **entries: str) -> str:
    with zipfile.ZipFile(path, "w") as made:
        for name, text in entries.items():
            made.writestr(name.replace("__", "/").replace("META/", "META-INF/"), text)
    return str(path)


def test_the_first_counts_services_are_joined_and_signatures_left_out(tmp_path: Path) -> None:
    jars = [
        jar(tmp_path / "a.jar", org__A="first", META__services__x="org.A", META__MANIFEST="m", **{"META__A.SF": "s"}),
        jar(tmp_path / "b.jar", org__A="second", org__B="b", META__services__x="org.B"),
    ]
    made = one_jar(jars, tmp_path / "all.jar")
    with zipfile.ZipFile(made) as found:
        assert found.read("org/A") == b"first"
        assert found.read("org/B") == b"b"
        assert found.read("META-INF/services/x").split() == [b"org.A", b"org.B"]
        assert b"Multi-Release: true" in found.read("META-INF/MANIFEST.MF")
        assert "META-INF/A.SF" not in found.namelist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jar", "all.jar", "b.jar"]
    assert one_jar([], made) == made, "made once"
