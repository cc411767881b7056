"""A projection's next version beside the one that is read: built, compared, switched to, and the old one dropped."""
