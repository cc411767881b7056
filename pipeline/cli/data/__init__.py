"""Commands for the data of a running topology: send, query, history."""
