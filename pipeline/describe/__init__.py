"""A topology described for people and for other tools: a picture of how data flows, and an AsyncAPI document."""
