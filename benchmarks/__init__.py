"""Benchmarks: the engine on one workload beside other stream processors, by step, and as the load grows."""
