"""The web application of the notice board."""
