"""The demo: a real shop's invoices through the pipeline, every figure checked against the file."""

from pathlib import Path

# The wheel has the shop in this package, as `topologies` and `schemas`. In the repository both lie at the top; so they
# are found there by the very same name, `pipeline.demo.topologies`, whatever is called `topologies` where one works.
if not (Path(__file__).parent / "topologies").is_dir():
    __path__.append(str(Path(__file__).parents[2]))
