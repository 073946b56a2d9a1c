"""Who answers: the model, or policyd, each on tables made by the same commands, as an administrator types them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from tests.oracle import commands
from tests.oracle.model import Answer, Request, Settings, World, answer


class Answerer(Protocol):
    """Tables that start empty, and what is answered by them."""

    def run(self, command: str) -> bool:
        """Do *command*, typed after `policyd`; whether it was done, and not refused."""

    def run_all(self, commands: list[str]) -> list[str]:
        """Do *commands*, one after the other, and return those that were done."""

    def ask(self, request: Request, now: int) -> Answer:
        """The answer to *request* at *now*, in Unix seconds."""


Opened = Callable[[Settings], AbstractContextManager[Answerer]]  # how an answerer is opened, with empty tables


class ModelAnswerer:
    """The model, with the world that the commands have made."""

    def __init__(self, settings: Settings) -> None:
        self.world = World(settings)

    def run(self, command: str) -> bool:
        """Do *command* in the world, all of it or nothing."""
        try:
            commands.run(self.world, command)
        except commands.RefusedError:
            return False
        return True

    def run_all(self, commands: list[str]) -> list[str]:
        """Do *commands*; those that were done."""
        return [command for command in commands if self.run(command)]

    def ask(self, request: Request, now: int) -> Answer:
        """The answer of the model."""
        return answer(self.world, request, now)


@contextmanager
def the_model(settings: Settings) -> Iterator[ModelAnswerer]:
    """The model, with empty tables."""
    yield ModelAnswerer(settings)
