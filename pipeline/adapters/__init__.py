"""All I/O of the pipeline: Kafka (confluent-kafka), Avro (fastavro), tables (rocksdict). Nothing is decided here."""
