"""Commands of backups: what is kept elsewhere, and the way back."""
