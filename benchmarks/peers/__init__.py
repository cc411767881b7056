"""The side-by-side runs: one workload on this engine and on others."""
