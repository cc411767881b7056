"""The demo: a real shop's invoices through the pipeline, every figure checked against the file."""

from pathlib import Path

# The wheel has the shop in this package, as `topologies` and `schemas`. In the repository both are at the top. There
# they are found by this same name, `pipeline.demo.topologies`, whatever `topologies` the current directory has.
if not (Path(__file__).parent / "topologies").is_dir():
    __path__.append(str(Path(__file__).parents[2]))
