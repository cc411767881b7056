"""`pipeline worker`: run services."""

from __future__ import annotations

import logging
import platform
import sys
from pathlib import Path

import click

from pipeline.cli.options import Where, database_option, given, log_options, topology_argument, trace_option, where
from pipeline.cli.values import FilePath, Seconds
from pipeline.worker.logs import LogFormat, hide, log_to_stderr


@click.command()
@topology_argument
@click.option(
    "--service", "services", multiple=True, metavar="NAME", help="Run only this service; repeatable.  [default: all]"
)
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="How many worker processes to run."
)
@click.option(
    "--slot", type=click.IntRange(0), help="Slot of the state directory to take.  [default: the first free one]"
)
@click.option(
    "--node",
    default=platform.node(),
    envvar="PIPELINE_NODE",
    help="Name of this machine in the consumer groups; must be unique and stable.  [default: the host name]",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Name or address of this machine to serve HTTP on; 0.0.0.0 or ::, all of them, needs --advertise. If other "
    "machines can call it, --token-file, too.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port to serve HTTP on; 0: a free one."
)
@click.option(
    "--advertise",
    envvar="PIPELINE_ADVERTISE",
    metavar="HOST[:PORT]",
    help="What other workers and clients are to call.  [default: the address that is listened on]",
)
@click.option(
    "--token-file",
    type=FilePath(path_type=Path),
    envvar="PIPELINE_TOKEN_FILE",
    metavar="FILE",
    help="Access tokens of which each request needs one; made with: pipeline token new NAME --file FILE. "
    "It may change at any time.",
)
@click.option(
    "--no-token",
    is_flag=True,
    help="Serve other machines without access tokens: only where something in front, such as a mesh, asks who comes.",
)
@click.option(
    "--ready-lag",
    type=Seconds(),
    envvar="PIPELINE_READY_LAG",
    default=60.0,
    show_default=True,
    help="How many seconds behind its topics a service may be for /readyz to say that it is ready.",
)
@click.option(
    "--standby",
    is_flag=True,
    help="Also follow the tables of partitions that other workers own: ready to take over, and to serve reads if the "
    "owner cannot.",
)
@click.option(
    "--secret-file",
    type=FilePath(path_type=Path),
    envvar="PIPELINE_SECRET_FILE",
    help="File with the secret for hashing unique values, the same for all workers of a service.  "
    "[default: one in --home, made if there is none]",
)
@database_option
@click.option(
    "--group-protocol",
    type=click.Choice(["classic", "consumer"]),
    default="classic",
    show_default=True,
    help="Protocol of the consumer groups; 'consumer' is that of KIP-848, for brokers from 4.0 on.",
)
@click.option(
    "--raising-share",
    type=click.FloatRange(0, 1),
    help="A service folds no more if more than this share of its records raises; 1 never holds it.  "
    "[default: what it declares, or 0.1]",
)
@click.option(
    "--raising-at-least",
    type=click.IntRange(1),
    help="And if at least so many records raise.  [default: what it declares, or 20]",
)
@click.option("--together", is_flag=True, hidden=True)  # one of several processes that end together
@log_options
@trace_option
@where()
@click.pass_context
def command(
    ctx: click.Context,
    services: tuple[str, ...],
    processes: int,
    slot: int | None,
    node: str,
    host: str,
    port: int,
    advertise: str | None,
    token_file: Path | None,
    no_token: bool,
    ready_lag: float,
    standby: bool,
    secret_file: Path | None,
    databases: tuple[str, ...],
    group_protocol: str,
    raising_share: float | None,
    raising_at_least: int | None,
    together: bool,
    log_level: str,
    log_format: LogFormat,
    trace: bool | None,
    where: Where,
) -> None:
    """Run the services of TOPOLOGY (a package, a module or a .py file) until SIGTERM or Ctrl-C.

    Workers of the same service share its partitions, wherever they run; one that ends hands its own to the others.
    Each serves queries at /v1/tables, its status at /v1/status and its metrics at /metrics, says at /livez and /readyz
    whether it lives and is ready, and keeps its tables under --home.
    """
    from pipeline.server.access.tokens import AccessTokens
    from pipeline.worker.addresses import advertised_address, check_reach, listening_address

    log_to_stderr(log_level, log_format)
    listening = listening_address(host, port)
    has_port = advertised_address(advertise, listening).port != 0
    if no_token and token_file is not None:
        raise click.UsageError("--no-token and --token-file do not go together: requests need a token, or none")
    check_reach(listening, token_file, no_token=no_token)
    if token_file is not None:
        AccessTokens(token_file)  # raises now, before any process is started
    if processes > 1:
        from pipeline.worker.processes import run_processes

        if slot is not None or port or has_port:
            raise click.UsageError(
                "--slot, --port and the port of --advertise name one process; leave them out with --processes"
            )
        sys.exit(run_processes(processes))

    from pipeline.worker.databases import parse_databases, passwords_of, without_tables
    from pipeline.worker.main import run_worker
    from pipeline.worker.open_files import options_of, parts_of
    from pipeline.worker.settings import WorkerSettings

    told = parse_databases(databases)
    hide(*passwords_of(told.values()))
    loaded = where.topology
    if wrong := without_tables(told, loaded):
        if "databases" in given(ctx):
            raise click.UsageError(f"--database: {wrong}")
        logging.getLogger(__name__).warning("PIPELINE_DATABASE: %s", wrong)  # it may be for several topologies
    address = where.address
    parts = parts_of(loaded, services, address)
    if len(parts) > 1:
        if has_port:
            raise click.UsageError(
                f"--advertise {advertise} names the port of one process, and these services run in {len(parts)}; leave "
                "the port out, or allow the process more open files"
            )
        from pipeline.worker.processes import run_processes

        sys.exit(run_processes(len(parts), [options_of(part, port if n == 0 else 0) for n, part in enumerate(parts)]))
    settings = WorkerSettings(
        bootstrap=address,
        state_dir=where.home / "state",
        services=services,
        node=node,
        slot=slot,
        host=host,
        port=port,
        advertise=advertise,
        token_file=token_file,
        ready_lag_s=ready_lag,
        standby=standby,
        secret_file=secret_file,
        databases=told,
        group_protocol=group_protocol,
        together=together,
        log_level=log_level,
        trace=trace,
        raising_share=raising_share,
        raising_at_least=raising_at_least,
    )
    run_worker(loaded, settings)
