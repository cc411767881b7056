"""A notice board: one service decides what hangs there, another keeps the pages that are read."""
