"""`pipeline completion`: what a shell needs to complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pipeline.cli.shown import say

VARIABLE = "_PIPELINE_COMPLETE"  # by which the shell asks; click's own name for it
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print what has SHELL complete commands, options, and the names of a topology. Put it where the shell reads it.

    \b
    pipeline completion bash > ~/.local/share/bash-completion/completions/pipeline
    pipeline completion zsh  > ~/.zfunc/_pipeline      # a directory of your fpath
    pipeline completion fish > ~/.config/fish/completions/pipeline.fish

    Services, aggregates, sagas, tables and topics are those of the topology that --topology, the environment or
    pipeline.toml names. No broker is asked. For a single shell: eval "$(pipeline completion bash)"
    """
    made = get_completion_class(shell)
    assert made is not None
    script = made(click.Command("pipeline"), {}, "pipeline", VARIABLE)
    say(script.source_template % script.source_vars(), keep="\n\t")
