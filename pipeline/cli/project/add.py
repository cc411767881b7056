"""`pipeline add`."""
import click
@click.group()
def command() -> None:
    """Add."""
