"""Backup and restore: event logs with all that belongs to them, and the tables of workers."""
