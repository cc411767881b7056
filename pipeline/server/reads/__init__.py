"""How far a read has to wait, and the local tables that answer it."""
