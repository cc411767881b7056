"""Comparisons of what must be with what is, one module for each kind of output."""
