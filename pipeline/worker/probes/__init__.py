"""What `/livez` and `/readyz` answer, and the line that says when a worker is ready."""
