"""Records of topics to a file, and back: with their schemas, exactly."""
