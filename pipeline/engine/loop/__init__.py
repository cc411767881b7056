"""The loop: a lane polls, its tasks fold, a checkpoint commits; partitions come and go."""
