"""An exporter that counts what another one could not export."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


class CountingExporter(SpanExporter):
    """`failed`: spans that were given up. `under_way`: those that are being exported."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.failed = self.under_way = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans."""
        self.under_way = len(spans)
        result = self._exporter.export(spans)
        self.under_way = 0
        if result is not SpanExportResult.SUCCESS:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        """Export nothing any more."""
        self._exporter.shutdown()
