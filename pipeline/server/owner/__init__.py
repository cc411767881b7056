"""Requests that another worker must serve, forwarded to the owner of the partition."""
