"""What is copied from logs: recovery of tables, standbys, replicas, histories."""
