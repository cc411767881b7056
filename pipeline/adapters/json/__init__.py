"""Values of messages as JSON and back: one module writes, one reads, and a third has the rules of both."""
