"""The HTTP surface: one declaration an endpoint, from which it is routed, parsed and described."""
