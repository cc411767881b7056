"""What runs a topology: the lane (batch loop), its tasks, the checkpoint, restore, and the worker that hosts lanes."""
