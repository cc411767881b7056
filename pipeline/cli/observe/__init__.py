"""Commands by which an operator sees how the services and their cluster are."""
