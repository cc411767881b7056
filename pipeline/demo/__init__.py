"""The demo: a real shop's invoices through the pipeline, every figure checked against the file."""
