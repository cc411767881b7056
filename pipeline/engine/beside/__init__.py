"""Steps that are new to a service: built beside the others, from the beginning of what these have folded already."""
