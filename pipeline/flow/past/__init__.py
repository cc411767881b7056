"""States of the past, from the events: what an aggregate was, and how two of its states differ."""
