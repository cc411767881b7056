"""The tracer of a process that has OpenTelemetry loaded already."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.engine.tracing.port import Tracer

SCOPE = "pipeline"


def find_tracer() -> Tracer | None:
    """Return a tracer of this process' tracer provider; None if nothing here has loaded OpenTelemetry."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import trace

    from pipeline.adapters.tracing.spans import OtelTracer

    return OtelTracer(trace.get_tracer(SCOPE))
