"""Telemetry: readings of many devices, judged by each device's limits, in windows by their own time, with alarms."""
