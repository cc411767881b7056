"""Watched rows: tails of row topics, and a bounded subscription for each watch."""
