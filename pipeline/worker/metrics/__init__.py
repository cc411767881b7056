"""The metrics of a worker, collected at each scrape from what its lanes and pages have counted."""
