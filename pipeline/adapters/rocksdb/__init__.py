"""Tables in RocksDB: one database for all that a service keeps on a machine."""
