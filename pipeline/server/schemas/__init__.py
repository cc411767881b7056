"""The JSON schemas of what endpoints take and answer, by what they are about."""
