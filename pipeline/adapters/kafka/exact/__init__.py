"""Logs as they were: a cut through all of them, and writing records again under the offsets that they had."""
