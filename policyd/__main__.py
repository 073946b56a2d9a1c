"""``python -m policyd``: the same as the command ``policyd``."""

from policyd.cli import main

main()
