"""What a lane says to a tracer: a span for each record that is traced, and for each step that folds it."""
