"""What the code of a topology is, and what of it has changed."""
