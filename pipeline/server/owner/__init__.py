"""Questions that another worker has to answer: forwarded to the owner of the partition."""
