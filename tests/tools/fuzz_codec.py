"""The codec's tests, many times over, on an extension built with the sanitizers of addresses and undefined behaviour.

`make fuzz` runs this; as a plugin of pytest it puts the sanitized extension in the place of the installed one.
"""

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

NAME = "pipeline.adapters.avro._native"
ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "fuzz" / "_native.so"
TESTS = [
    "tests/unit/adapters/test_codec.py",
    "tests/unit/adapters/test_codec_edges.py",
    "tests/unit/adapters/test_conversions.py",
    "tests/unit/adapters/test_conversions_in_unions.py",
    "tests/unit/adapters/test_schemas.py",
]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
FLAGS = ["-g", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", *SANITIZERS]


def main() -> int:
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    source = ROOT / f"{NAME.replace('.', '/')}.c"
    include = sysconfig.get_paths()["include"]
    subprocess.run(["cc", *FLAGS, f"-I{include}", "-o", BUILT, source], check=True)
    library = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    env = {
        "PIPELINE_TEST_EXAMPLES": "3000",
        **os.environ,
        "LD_PRELOAD": library.strip(),
        "PYTHONMALLOC": "malloc",  # so that the sanitizer sees each object
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaves much; the tests count references instead
    }
    # the sanitizer's report shows
    options = ["-q", "-p", "tests.tools.fuzz_codec", "-p", "no:faulthandler", "--capture=sys"]
    command = [sys.executable, "-m", "pytest", *options, *TESTS]
    return subprocess.run([*command, *sys.argv[1:]], env=env, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())

spec = importlib.util.spec_from_file_location(NAME, BUILT)
assert spec is not None
assert spec.loader is not None
sys.modules[NAME] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[NAME])
