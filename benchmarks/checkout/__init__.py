"""The shop's two checkouts, compared on the same orders."""
