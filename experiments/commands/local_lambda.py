"""The command local-lambda: the embedded Lambda and S3 endpoint alone."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from experiments.commands.options import json_option, print_json


@click.command("local-lambda")
@click.option("--mb-per-core", type=float, default=1769.0, show_default=True, help="Memory that buys one core.")
@click.option(
    "--keep-alive",
    "keep_alive_s",
    type=float,
    default=600.0,
    show_default=True,
    metavar="S",
    help="An instance idle for so long is removed.",
)
@click.option("--concurrency", type=int, default=50, show_default=True, help="Calls at once, of all functions.")
@click.option("--init-throttled", is_flag=True, help="INIT gets the memory's CPU share only.")
@click.option(
    "--s3-latency",
    "s3_latency_s",
    type=float,
    default=0.0,
    metavar="S",
    help="Each S3 request of a function waits.",
)
@click.option(
    "--s3-bandwidth",
    "s3_mb_per_s_per_gb",
    type=float,
    default=0.0,
    metavar="MB/S",
    help="A function's way to S3, for each GB of its memory; 0: as fast as it goes.",
)
@click.option("--logs", type=click.Path(file_okay=False, path_type=Path), help="Keep each function's log there.")
@json_option
def local_lambda(
    mb_per_core: float,
    keep_alive_s: float,
    concurrency: int,
    init_throttled: bool,
    s3_latency_s: float,
    s3_mb_per_s_per_gb: float,
    logs: Path | None,
    as_json: bool,
) -> None:
    """Start Lambda and S3 on this machine, for any boto3 program, until Ctrl-C.

    Prints the variables to export; `docs/aws.md` says what is modelled and what is not.

    \b
    Example: ./smoe local-lambda --mb-per-core 512
    """
    from lambda_probe.local import LocalEndpoint, LocalSettings

    settings = LocalSettings(
        mb_per_core=mb_per_core,
        keep_alive_s=keep_alive_s,
        account_concurrency=concurrency,
        init_throttled=init_throttled,
        s3_latency_s=s3_latency_s,
        s3_bytes_per_s_per_mb=s3_mb_per_s_per_gb * 2**20 / 1024,
        log_folder=logs,
    )
    for sent in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background job ignores it
        signal.signal(sent, signal.default_int_handler)
    try:
        with LocalEndpoint(settings) as endpoint:
            variables = endpoint.environment()
            if as_json:
                print_json(variables)
            else:
                click.echo("\n".join(f"export {name}={value}" for name, value in variables.items()))
            click.echo("smoe: Lambda and S3 run on this machine only; Ctrl-C stops them and removes all", err=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("smoe: stopped; functions, buckets and processes are gone", err=True)
