"""Schemas as files: made from message classes, and compared with those that are there."""
