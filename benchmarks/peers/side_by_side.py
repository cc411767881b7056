"""The side-by-side runs: `python -m benchmarks.peers.side_by_side --peers <folder of the harness>`.

The harness starts this project's worker and others on the same broker with the same commands, measures all of them from
outside and checks each answer; see docs/performance.md. This runs its three modes, one after the other, and again those
that fail: on a busy machine it may ask for a topic before the broker has its leader.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
TRIES = 4
MODES = {
    "throughput": ["--peers", "kafka-streams,quix", "--timeout", "600"],
    "latency": ["--peers", "kafka-streams", "--rate", "1000"],
    "restore": ["--peers", "kafka-streams", "--timeout", "600"],
}


def candidate() -> str:
    """The shell command that the harness takes as `--candidate`, from whatever folder it is called."""
    return f"cd {shlex.quote(str(ROOT))} && exec {shlex.quote(sys.executable)} -m benchmarks.peers.candidate"


@click.command()
@click.option("--peers", "folder", type=click.Path(path_type=Path), help="Folder of the harness, with its `bench`.")
@click.option("--rounds", default=3, show_default=True, help="Interleaved rounds of each mode.")
@click.option("--mode", "modes", multiple=True, type=click.Choice(list(MODES)), help="Only this; repeatable.")
@click.option("--count", default=1_000_000, show_default=True, help="Commands; accounts, in restore.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("build/bench"), show_default=True, help="For its files."
)
@click.option("--print-candidate", is_flag=True, help="Only print the command for the harness's --candidate.")
def main(
    folder: Path | None, rounds: int, modes: tuple[str, ...], count: int, work: Path, print_candidate: bool
) -> None:
    """Measure this project's worker beside Kafka Streams and Quix Streams. Exit code 0: all answers were right."""
    if print_candidate:
        click.echo(candidate())
        return
    if folder is None or not (folder / "bench").exists():
        raise click.UsageError("--peers must name the folder of the harness, the one with `bench` in it")
    work = work.resolve()
    wrong = []
    for mode in modes or MODES:
        command = [str(folder / "bench"), mode, *MODES[mode], "--rounds", str(rounds), "--work", str(work)]
        command += ["--n", str(count), "--candidate", candidate(), "--json", str(work / f"{mode}.json")]
        if not any(subprocess.run(command).returncode == 0 for _ in range(TRIES)):
            wrong.append(mode)
    if wrong:
        raise click.ClickException(f"{', '.join(wrong)}: not all was right, see above")


if __name__ == "__main__":
    main()
