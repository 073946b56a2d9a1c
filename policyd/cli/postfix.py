"""The option that says which Postfix is meant."""

from pathlib import Path

import click

postfix_config_option = click.option(
    "--postfix-config",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder with main.cf and master.cf; without it, Postfix's own.",
)
