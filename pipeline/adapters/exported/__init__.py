"""Export files: Avro container files with the records of topics, exactly as they stand there, and all their schemas."""
