"""Development: services that start anew at each save, and a shell with a topology at hand."""
