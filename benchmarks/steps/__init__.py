"""What each step of the engine costs."""
