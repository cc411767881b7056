"""All I/O of the pipeline: Kafka (confluent-kafka), Avro (fastavro), tables (rocksdict). Nothing here decides anything."""
