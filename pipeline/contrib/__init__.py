"""Clients in web frameworks. Each folder needs the framework of its name; no other part of the project imports it."""
