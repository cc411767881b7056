"""Reading materialised tables: over HTTP on any worker, routed to the one that holds the key's partition."""
