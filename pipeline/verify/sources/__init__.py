"""Where the checker reads: Kafka, and records decoded by the schemas."""
