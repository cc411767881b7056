"""A worker's HTTP side: pages, each served by the owner of the partition."""
