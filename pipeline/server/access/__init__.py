"""Who may call a worker: the file of access tokens, and the check of each request."""
