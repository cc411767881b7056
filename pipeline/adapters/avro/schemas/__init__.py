"""Schemas as files: made from message classes, compared with those that are there and with their earlier versions."""
