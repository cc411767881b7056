"""Avro in the Confluent wire format, to and from message classes. Schemas and ids are in a committed manifest."""
