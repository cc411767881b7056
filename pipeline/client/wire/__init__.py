"""The HTTP formats that client and worker share: parameters, commands and outcomes as JSON."""
