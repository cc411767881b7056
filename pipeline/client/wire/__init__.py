"""What goes over HTTP as both sides write it: parameters, commands and outcomes as JSON."""
