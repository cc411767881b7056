"""Checks of a machine and a cluster: each is well, or comes with its cure."""
