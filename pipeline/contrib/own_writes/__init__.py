"""Clients of one web request, so that a page reads its own writes: each write's position travels with the browser."""
