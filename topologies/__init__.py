"""The reference business, a shop: one file = one service = one owner of data.

Each file is pure (no client library, no clock) and imports no other service: it knows its neighbours by their published
schemas alone. Every file reads in the same order: commands, events, state, decide, evolve, what it follows, service.
"""
