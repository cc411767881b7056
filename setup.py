"""The packages of the wheel. The shop lies at the top of the repository, and in the wheel inside the package.

So nothing but `pipeline` is installed, and a project's own `topologies` and `schemas` stand alone under these names.
"""

from setuptools import find_packages, setup

SHOP = {"pipeline.demo.topologies": "topologies", "pipeline.demo.schemas": "schemas"}

setup(packages=[*find_packages(include=["pipeline", "pipeline.*"]), *SHOP], package_dir=SHOP)
