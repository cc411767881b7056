"""The waits of reads for positions, and the local tables that they read."""
