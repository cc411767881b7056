"""Spans by OpenTelemetry, which is loaded only where it is in use: the extra `tracing`."""
