"""The simulator's judge: what the stores and logs of a world must contain."""
