"""A client's near cache: rows kept until the row topic brings a newer one."""
