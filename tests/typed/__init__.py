"""Services whose messages and rows have every type that a message may have. Their schemas are made of the classes."""
