"""A client's own copy of rows, kept while the row topic has no newer one."""
