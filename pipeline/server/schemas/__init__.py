"""The JSON schemas of requests and replies, by subject."""
