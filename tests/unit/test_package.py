"""What is installed: one package, with the shop in it; and which topology is meant where several are called alike."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from functools import partial
from pathlib import Path

import pytest

from pipeline.demo.shop import NAME, SHOP
from pipeline.demo.worker import environment
from pipeline.topology import load

ROOT = Path(__file__).parents[2]
SOURCES = ("LICENSE", "README.md", "pyproject.toml", "setup.py", "pipeline", "schemas", "topologies")
MINE = "from pipeline import Service\nservice = Service('mine')\n"
WHICH = """
import pipeline, pipeline.demo.shop as shop
from pipeline.topology import load
print(pipeline.__file__, shop.NAME, *load(shop.NAME).services)
print(load("topologies").services.keys())
"""


@pytest.fixture(scope="module")
def setuptools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What builds the package, in a folder for PYTHONPATH: fetched once for all builds."""
    folder = tmp_path_factory.mktemp("setuptools")
    (wanted,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if "No matching distribution" in done.stderr:
        pytest.skip("setuptools, which builds the wheel, cannot be fetched here")
    assert done.returncode == 0, done.stderr
    return folder


def build(source: Path, setuptools: Path, what: str, **env: str) -> Path:
    """Build the sdist or the wheel of a folder; return the file."""
    out = source.parent / f"{source.name}-{what}"
    command = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", f"--{what}"]
    env = {**os.environ, "PYTHONPATH": str(setuptools), **env}
    done = subprocess.run(
        [*command, "--outdir", str(out), str(source)], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory, setuptools: Path) -> Path:
    """Built from a copy: what earlier builds have left beside the sources does not count."""
    folder = tmp_path_factory.mktemp("package") / "checkout"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return build(folder, setuptools, "sdist")


def unpacked(sdist: Path, name: str) -> Path:
    folder = sdist.parent.parent / name
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (inner,) = folder.iterdir()
    return inner


@pytest.fixture(scope="module")
def wheel(sdist: Path, setuptools: Path) -> Path:
    """Built of the sdist alone, so that this is complete, too."""
    return build(unpacked(sdist, "native"), setuptools, "wheel")


@pytest.fixture(scope="module")
def without_compiler(sdist: Path, setuptools: Path) -> Path:
    """The files of a wheel that was built where there is no compiler, in a folder to be put on PYTHONPATH."""
    made = build(unpacked(sdist, "pure"), setuptools, "wheel", CC="false", CXX="false")
    folder = made.parent / "installed"
    with zipfile.ZipFile(made) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The wheel's files in a folder, to be put on PYTHONPATH."""
    folder = wheel.parent / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_is_one_package_with_the_shop_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
        (license_text,) = (archive.read(name) for name in names if name.endswith(".dist-info/licenses/LICENSE"))
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"pipeline"}
    for source, place in (("topologies", "pipeline/demo/topologies"), ("schemas", "pipeline/demo/schemas")):
        expected = {path.name for path in (ROOT / source).iterdir() if path.suffix in (".py", ".avsc", ".json")}
        assert {name.removeprefix(f"{place}/") for name in names if name.startswith(f"{place}/")} == expected
    for inner in ("pipeline", "topologies"):  # no module was forgotten
        place = "pipeline/demo/topologies" if inner == "topologies" else "pipeline"
        for path in (ROOT / inner).rglob("*.py"):
            assert f"{place}/{path.relative_to(ROOT / inner).as_posix()}" in names
    assert {"pipeline/py.typed", "pipeline/schemas/manifest.json"} <= set(names)
    for path in (ROOT / "pipeline" / "scaffold" / "templates").rglob("*.template"):
        assert path.relative_to(ROOT).as_posix() in names
    if shutil.which("cc") or shutil.which("gcc"):
        for extension in ("adapters/avro/_native", "model/records/_murmur2"):
            assert [name for name in names if re.fullmatch(rf"pipeline/{extension}\..*\.so", name)]
    assert "License-Expression: Apache-2.0" in metadata
    assert b"Apache License" in license_text


def test_installing_says_what_it_does_and_how_long_that_takes() -> None:
    command = ["make", "--dry-run", "--always-make", "install"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    steps = ("1 of 3: ", "-m venv", "2 of 3: ", "--requirement", "3 of 3: ", "--editable")
    places = [said.index(step) for step in steps]
    assert places == sorted(places)
    assert len(re.findall(r"[123] of 3: .*[0-9] (?:seconds|minutes)", said)) == 3


def which(cwd: Path, **env: str) -> list[str]:
    command = [sys.executable, "-P", "-c", WHICH]
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def project(folder: Path) -> Path:
    """A folder with a topology of one's own, and modules called as the engine's package and one of its libraries."""
    (folder / "topologies").mkdir(parents=True)
    (folder / "topologies" / "__init__.py").touch()
    (folder / "topologies" / "mine.py").write_text(MINE)
    for name in ("pipeline.py", "orders.py", "queue.py", "click.py"):
        (folder / name).write_text("raise SystemExit('not this one')\n")
    return folder


def test_ones_own_topology_is_found_first_and_the_shop_stays_the_shop(installed: Path, tmp_path: Path) -> None:
    cwd = project(tmp_path)
    (cwd / "click.py").unlink()  # a project's own modules come before libraries, once its topology is loaded
    (cwd / "queue.py").unlink()
    for env, package in (({"PYTHONPATH": str(installed)}, installed), ({}, ROOT)):
        shop, mine = which(cwd, **env)
        assert shop.split()[:2] == [str(package / "pipeline" / "__init__.py"), SHOP]
        assert {"inventory", "orders", "checkout_2pc"} <= set(shop.split()[2:])
        assert mine == "dict_keys(['mine'])"


def test_a_worker_of_the_demo_is_this_package_whatever_lies_in_the_current_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "schemas", "check", SHOP]
    done = subprocess.run(command, cwd=project(tmp_path), env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "inventory: classes and schemas agree" in done.stdout


def test_in_the_repository_the_shop_has_two_names() -> None:
    assert NAME == "topologies"  # the tests' own: what they send are the demo's very classes
    anywhere = load(SHOP)
    assert anywhere.services.keys() == load("topologies").services.keys()
    assert anywhere.schemas == ROOT / "schemas"


@pytest.mark.long
def test_the_demo_runs_from_the_wheel_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    lines = "1,TEA,TEA,2,2009-12-01 07:45:00,1.5,17850,France\n"
    source = tmp_path / "small.csv"
    source.write_text("Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n" + lines)
    empty = tmp_path / "empty"
    empty.mkdir()
    command = [sys.executable, "-P", "-m", "pipeline", "demo", "--input", str(source)]
    env = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=empty, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified: every figure equals the recomputation from the file" in done.stdout


def project_runs(installed: Path, place: Path) -> None:
    """Make a project with the package in that folder alone, and run its tests."""
    env = {**os.environ, "PYTHONPATH": f"{installed}"}
    for command, cwd in (
        (["-P", "-m", "pipeline", "new", "shop", "--pipeline-from", "published"], place),
        (["-m", "pytest", "-q", "-p", "no:cacheprovider"], place / "shop"),
    ):
        done = subprocess.run(
            [sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_a_project_is_made_by_the_installed_package(installed: Path, tmp_path: Path) -> None:
    project_runs(installed, tmp_path)


def test_without_a_compiler_the_package_has_no_extension_and_works(without_compiler: Path, tmp_path: Path) -> None:
    assert list(without_compiler.rglob("*.so")) == []
    project_runs(without_compiler, tmp_path)


@pytest.mark.long
def test_a_project_runs_in_fresh_environments_with_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """As a person has it: an empty environment, the wheel, a project in another empty environment, its two commands."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "PYTHON"))}
    run = partial(subprocess.run, env=env, capture_output=True, text=True, timeout=1200, check=False)
    python = tmp_path / "empty" / "bin" / "python"
    for command, cwd in (
        ([sys.executable, "-m", "venv", str(tmp_path / "empty")], tmp_path),
        ([str(python), "-m", "pip", "install", "--quiet", f"{wheel}[broker,testing,develop]"], tmp_path),
        ([str(python.with_name("pipeline")), "new", "shop"], tmp_path),
        (["make", f"PYTHON={sys.executable}", "demo"], tmp_path / "shop"),
        (["make", "test"], tmp_path / "shop"),
        (["make", "check"], tmp_path / "shop"),
    ):
        done = run(command, cwd=cwd)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert wheel.name in (tmp_path / "shop" / "pyproject.toml").read_text()
