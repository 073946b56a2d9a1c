"""The option that says which Postfix is meant."""

from pathlib import Path

import click

from policyd.cli.types import complete_folder

postfix_config_option = click.option(
    "--postfix-config",
    type=click.Path(path_type=Path),
    metavar="DIR",
    shell_complete=complete_folder,
    help="The folder with main.cf and master.cf; without it, Postfix's own.",
)
