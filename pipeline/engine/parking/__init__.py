"""Records that cannot be folded: parked with their key, told of in a log, redriven or discarded."""
