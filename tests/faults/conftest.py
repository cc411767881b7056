"""A broker for the short fault suite, one for each file of tests: the files run side by side."""

from collections.abc import Iterator

import pytest

from tests.faults.harness.cluster import Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("brokers") / "one")
    yield made
    made.close()
