"""What Postfix must be told: the answer of the model in `tests/oracle`, as text, where there is a database to ask."""

import copy
from dataclasses import dataclass

from tests.oracle import model
from tests.oracle.model import Request

HANG_UP = ""  # instead of an answer
TEXTS = {
    "unlisted-recipient": "REJECT 5.1.1 This address does not receive mail",
    "restricted-recipient": "REJECT 5.7.1 This mailbox does not take mail from this sender",
    "blocked-sender": "REJECT 5.7.1 This sender may not write to this recipient",
}
UNLISTED = TEXTS["unlisted-recipient"]


@dataclass
class World(model.World):
    """The tables and settings of the model, and what else the answers depend on. It is changed as a copy only."""

    is_monitor: bool = False
    is_away: bool = False  # the database

    def copy(self, *, is_away: bool = False) -> "World":
        """One to change."""
        copied = copy.deepcopy(self)
        copied.is_away = is_away
        return copied


def action(world: World, question: Request, now: int) -> str:
    """The action that answers *question* at *now*, in Unix seconds; `HANG_UP` where there can be none."""
    if question.protocol_state in ("VRFY", "ETRN"):
        return "DUNNO"
    if world.is_away:
        return HANG_UP
    answer = model.answer(world, question, now)
    if world.is_monitor or answer.action == "DUNNO":
        return "DUNNO"
    text = TEXTS[answer.rule]
    return f"{text}: {answer.reason}" if answer.reason else text
