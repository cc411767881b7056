"""Avro as bytes: numbers, and records of one schema rewritten to another, without values."""
