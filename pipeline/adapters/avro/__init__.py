"""Avro in the Confluent wire format, to and from message classes; schemas and ids from a committed manifest."""
