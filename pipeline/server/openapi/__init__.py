"""The OpenAPI document of the pages."""
