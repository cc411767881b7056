"""The composition root: a worker process, which hosts lanes and HTTP pages in a Faust app."""
