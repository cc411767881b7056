"""Projections over HTTP: which version of each readers get."""

from __future__ import annotations

from pipeline.adapters.kafka.reader_versions import Versions, as_json
from pipeline.server.endpoint import Page, Pages, Reply, Request
from pipeline.server.endpoints.tables import PROJECTIONS


class ProjectionApi:
    """`GET /v1/projections`."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    def pages(self) -> Pages:
        """Return the pages."""
        return {PROJECTIONS: Page(self.projections)}

    async def projections(self, request: Request) -> Reply:
        """Return the projections that have several versions."""
        return Reply(200, as_json(self._versions.state()))
