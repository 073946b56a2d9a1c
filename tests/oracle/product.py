"""policyd as an answerer: tables made by its real command line, questions asked of what the daemon decides with."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from policyd import model
from policyd.decide import Decider
from policyd.settings import load_settings
from policyd.store.connection import Database
from policyd.store.database import create_database, reading
from policyd.store.lookup import Lookup
from policyd.store.queries import Queries
from tests.oracle.model import Answer, Request, Settings
from tests.support.command_line import CommandLine, command_line


class ProductAnswerer:
    """Commands on a database of their own, and the decider on its lookup, as in the daemon."""

    def __init__(self, commands: CommandLine, decider: Decider) -> None:
        self.commands = commands
        self.decider = decider

    def run(self, command: str) -> bool:
        """Type *command*; a refusal has status 1 or 2, and anything but these and 0 is a defect."""
        ended = self.commands.ends(command)
        assert ended.status in (0, 1, 2), f"{command}: {ended}"
        return ended.status == 0

    def run_all(self, commands: list[str]) -> list[str]:
        """Type *commands*; those that were done."""
        return [command for command in commands if self.run(command)]

    def ask(self, request: Request, now: int) -> Answer:
        """The decision on *request*."""
        try:
            decision = self.decider.decide(model.Request(**request._asdict()), now)
        finally:
            self.decider.end()
        return Answer(
            decision.action.value,
            decision.rule.value,
            self._entry(decision.entry),
            decision.by,
            decision.mailbox,
            decision.reason,
        )

    def _entry(self, number: int | None) -> str:
        if number is None:
            return ""
        with reading(self.commands.store) as connection:
            (entry,) = (each for each in Queries(connection).blocked_senders() if each.id == number)
        return f"{entry.who} to {entry.to}".casefold()


@contextmanager
def the_product(settings: Settings) -> Iterator[ProductAnswerer]:
    """policyd, with empty tables and these settings, which it reads from a file as the daemon does."""
    with command_line() as commands:
        usual = vars(Settings())
        lines = [f"{name} = {_toml(value)}" for name, value in vars(settings).items() if value != usual[name]]
        commands.settings.write_text("\n".join([*lines, "[audit]", 'syslog = "none"', ""]), encoding="utf-8")
        create_database(Database.at(commands.database))
        found = load_settings(commands.settings)
        with closing(Lookup(commands.store)) as lookup:
            yield ProductAnswerer(commands, Decider(found, lookup))


def _toml(value: object) -> str:
    """A text or a list of texts; a single-quoted one keeps its backslashes."""
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else f"'{value}'"
