"""What an operator asks of a cluster: records as they stand, groups, open transactions."""
