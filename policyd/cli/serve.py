"""`policyd serve`: runs the daemon."""

import click

from policyd.cli.command import Command, invocation


@click.command("serve", cls=Command)
@click.option(
    "--listen",
    metavar="ENDPOINT",
    multiple=True,
    help="Where to listen, instead of the setting: unix:/path[:mode=660] or tcp:PORT:interface=127.0.0.1.",
)
@click.option(
    "--workers", metavar="N|auto", help="How many processes answer, instead of the setting; auto is one each processor."
)
@click.option("--stdio", is_flag=True, help="Answer on stdin and stdout until they are closed, for Postfix's spawn(8).")
def command(listen: tuple[str, ...], workers: str | None, stdio: bool) -> None:
    """Answer Postfix, in the foreground, until SIGTERM. SIGHUP reads the settings again.

    \b
    Example: policyd serve --listen tcp:10040:interface=127.0.0.1
    """
    if stdio and workers is not None:
        raise click.UsageError("--stdio serves one connection, with one process; leave --workers out.")
    from policyd.daemon.run import serve, serve_stdio

    call = invocation()
    call.listen, call.workers = listen, workers
    (serve_stdio if stdio else serve)(call.load_settings)
