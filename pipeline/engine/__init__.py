"""Runs a service: the plan of its topics, tables and steps, and the loop that folds them; no I/O of its own."""
