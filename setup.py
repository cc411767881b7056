"""The packages of the wheel. The shop lies at the top of the repository, and in the wheel inside the package.

So nothing but `pipeline` is installed, and a project's own `topologies` and `schemas` stand alone under these names.
"""

import atexit
import shutil
import tempfile

from setuptools import find_packages, setup

SHOP = {"pipeline.demo.topologies": "topologies", "pipeline.demo.schemas": "schemas"}

# Not `build` in the checkout: several projects may install from it at once, and what an earlier build has left there
# would be packed, too.
place = tempfile.mkdtemp(prefix="kafka-pipeline-")
atexit.register(shutil.rmtree, place, ignore_errors=True)

setup(
    packages=[*find_packages(include=["pipeline", "pipeline.*"]), *SHOP],
    package_dir=SHOP,
    options={"build": {"build_base": place}},
)
