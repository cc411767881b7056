"""The HTTP surface: one declaration for each endpoint, used for routing, parsing and the OpenAPI document."""
