"""policyd as an answerer, its tables changed by the editor that is behind every command: many times as quick."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from policyd.address import normal_domain, normal_name, parse_address, parse_party
from policyd.errors import AddressError, RefusedError
from policyd.model import Domain, Party, PartyKind, Receive, Unlisted
from policyd.store.database import changing
from policyd.store.edit import NO_END, Editor, EntryTerms, RestrictionTerms
from tests.oracle.commands import Given, moment, parse
from tests.oracle.model import Settings
from tests.oracle.product import ProductAnswerer, the_product
from tests.support.writing import editor_on

ANYONE, OUTSIDE = PartyKind.ANYONE, PartyKind.OUTSIDE


class EditedAnswerer(ProductAnswerer):
    """The decider of the product, and its editor in the place of its command line."""

    def run(self, command: str) -> bool:
        """Have the editor do what *command* says, in a transaction of its own."""
        return self.run_all([command]) == [command]

    def run_all(self, commands: list[str]) -> list[str]:
        """Have the editor do *commands* in one transaction, which begins anew without each one that is refused."""
        left = [*commands]
        while True:
            number = 0
            try:
                with changing(self.commands.store) as connection:
                    editor = editor_on(connection)
                    for number, command in enumerate(left):  # noqa: B007 - which one it was, where it is refused
                        noun, verb, words, given = parse(command)
                        EDITS[noun, verb](editor, words, given)
            except (RefusedError, AddressError):
                del left[number]
            else:
                return left


@contextmanager
def the_edited_product(settings: Settings) -> Iterator[EditedAnswerer]:
    """policyd, with empty tables and these settings."""
    with the_product(settings) as answerer:
        yield EditedAnswerer(answerer.commands, answerer.decider)


def _parties(texts: list[str] | None, *words: PartyKind) -> frozenset[Party] | None:
    return None if texts is None else frozenset(parse_party(text, *words) for text in texts)


def _until(given: Given) -> int | None:
    return None if given.until is None else NO_END if given.until == "never" else moment(given.until)


def _restriction_terms(given: Given) -> RestrictionTerms:
    receive = None if given.receive is None else Receive(given.receive)
    return RestrictionTerms(receive, _parties(given.accept), given.reason, _until(given))


def _entry_terms(given: Given) -> EntryTerms:
    return EntryTerms(_parties(given.except_), _parties(given.except_sender), given.reason, _until(given))


def _to(given: Given) -> Party | None:
    return None if given.to is None else parse_party(given.to, ANYONE, OUTSIDE)


def _who(text: str) -> Party:
    return parse_party(text, ANYONE)


def _domain_add(edit: Editor, words: list[str], given: Given) -> None:
    alias_of = normal_domain(given.alias_of) if given.alias_of else ""
    edit.add_domain(Domain(normal_domain(words[0]), Unlisted(given.unlisted or "reject"), alias_of))


def _domain_set(edit: Editor, words: list[str], given: Given) -> None:
    alias_of = "" if given.no_alias else normal_domain(given.alias_of) if given.alias_of else None
    unlisted = None if given.unlisted is None else Unlisted(given.unlisted)
    edit.set_domain(normal_domain(words[0]), unlisted, alias_of=alias_of)


def _mailbox_add(edit: Editor, words: list[str], given: Given) -> None:
    edit.add_mailbox(normal_name(words[0]), [str(parse_address(word)) for word in words[1:]], "")


def _mailbox_open(edit: Editor, words: list[str], given: Given) -> None:
    for word in words:
        edit.open_mailbox(edit.mailbox(word), _until(given))


def _mailbox_remove(edit: Editor, words: list[str], given: Given) -> None:
    for word in words:
        edit.remove_mailbox(word)


def _address_add(edit: Editor, words: list[str], given: Given) -> None:
    for word in words[1:]:
        edit.add_address(words[0], str(parse_address(word)))


def _address_remove(edit: Editor, words: list[str], given: Given) -> None:
    for word in words:
        edit.remove_address(str(parse_address(word)))


def _group_add(edit: Editor, words: list[str], given: Given) -> None:
    edit.add_group(normal_name(words[0]), [parse_party(word) for word in words[1:]])


def _group_remove(edit: Editor, words: list[str], given: Given) -> None:
    for word in words:
        edit.remove_group(word)


def _group_join(edit: Editor, words: list[str], given: Given) -> None:
    edit.join(edit.group(words[0]), [parse_party(word) for word in words[1:]])


def _group_leave(edit: Editor, words: list[str], given: Given) -> None:
    edit.leave(edit.group(words[0]), [parse_party(word) for word in words[1:]])


def _block(edit: Editor, words: list[str], given: Given) -> None:
    for word in words:
        edit.block_sender(_who(word), _to(given), _entry_terms(given))


def _unblock(edit: Editor, words: list[str], given: Given) -> None:
    for word in words:
        edit.unblock_sender(_who(word), _to(given))


def _except(edit: Editor, words: list[str], given: Given) -> None:
    recipients = [parse_party(word) for word in words[1:]]
    edit.add_exceptions(_who(words[0]), _to(given), recipients, _parties(given.except_sender) or ())


def _unexcept(edit: Editor, words: list[str], given: Given) -> None:
    recipients = [parse_party(word) for word in words[1:]]
    edit.remove_exceptions(_who(words[0]), _to(given), recipients, _parties(given.except_sender) or ())


Edit = Callable[[Editor, list[str], Given], None]
EDITS: dict[tuple[str, str], Edit] = {
    ("domain", "add"): _domain_add,
    ("domain", "set"): _domain_set,
    ("domain", "remove"): lambda edit, words, given: edit.remove_domain(normal_domain(words[0])),
    ("mailbox", "add"): _mailbox_add,
    ("mailbox", "open"): _mailbox_open,
    ("mailbox", "rename"): lambda edit, words, given: edit.rename_mailbox(words[0], normal_name(words[1])),
    ("mailbox", "remove"): _mailbox_remove,
    ("address", "add"): _address_add,
    ("address", "remove"): _address_remove,
    ("group", "add"): _group_add,
    ("group", "join"): _group_join,
    ("group", "leave"): _group_leave,
    ("group", "rename"): lambda edit, words, given: edit.rename_group(words[0], normal_name(words[1])),
    ("group", "remove"): _group_remove,
    ("sender", "block"): _block,
    ("sender", "unblock"): _unblock,
    ("sender", "except"): _except,
    ("sender", "unexcept"): _unexcept,
}


def _add_restrictions(noun: str) -> None:
    def owner(edit: Editor, name: str) -> Domain:
        find: Callable[[str], Domain] = getattr(edit, noun)
        return find(normal_domain(name) if noun == "domain" else name)

    def restrict(edit: Editor, words: list[str], given: Given) -> None:
        for word in words:
            edit.restrict(owner(edit, word), _restriction_terms(given))

    def lift(edit: Editor, words: list[str], given: Given) -> None:
        for word in words:
            edit.lift(owner(edit, word))

    def accept(edit: Editor, words: list[str], given: Given) -> None:
        edit.accept(owner(edit, words[0]), [parse_party(word) for word in words[1:]])

    def unaccept(edit: Editor, words: list[str], given: Given) -> None:
        edit.unaccept(owner(edit, words[0]), [parse_party(word) for word in words[1:]])

    EDITS.update({(noun, each.__name__): each for each in (restrict, lift, accept, unaccept)})


for _noun in ("domain", "mailbox", "group"):
    _add_restrictions(_noun)
