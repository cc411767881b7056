"""What stands in topics: their kinds, messages, barriers, partitions and positions; pure."""
