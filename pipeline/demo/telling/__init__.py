"""What the demo says: what it does and why, how far it is, what has happened, and what to type next."""
