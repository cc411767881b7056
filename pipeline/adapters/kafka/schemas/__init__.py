"""The schemas that a cluster carries, for all who read what others have written."""
