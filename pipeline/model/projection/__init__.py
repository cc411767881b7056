"""Projections and replicas as declared, their versions, and windows by event time; pure."""
