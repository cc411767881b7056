"""How far groups are behind their logs, in records and in seconds, as the broker and the logs say it."""
