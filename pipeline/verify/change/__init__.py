"""What present code would change: what is recorded is made again, and compared by type, key and field."""
