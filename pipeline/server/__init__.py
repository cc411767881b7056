"""A worker's HTTP side: pages, each answered by the owner of the partition."""
