"""Commands that describe a topology."""
