"""Seven properties of the rules that hold in any world, for the model and for policyd alike.

Each takes how an answerer is opened, and hypothesis' source of worlds and questions.
"""

import idna
from hypothesis import assume, note
from hypothesis import strategies as st

from tests.oracle.answerers import Opened
from tests.oracle.model import (
    Request,
    World,
    find,
    forms_of_local,
    is_pattern,
    parties_in,
    patterns_matching,
)
from tests.oracle.worlds import (
    GROUPS,
    HOME,
    LOCALS,
    NAMES,
    Built,
    block_words,
    build,
    clients,
    encapsulated,
    envelope_senders,
    holders,
    later_commands,
    logins,
    patterns,
    question_lists,
    recipients,
    senders,
    tables,
)


def every_spelling_of_an_address_answers_as_the_address(opened: Opened, data: st.DataObject) -> None:
    """In another case, alias domain, BATV, IMCEA ... unless an entry names the one spelling by pattern."""
    made = data.draw(tables())
    with opened(made.settings) as answerer:
        built = build(answerer, made.settings, made.commands)
        holders_of_addresses = [each for each in built.world.mailboxes.values() if each.addresses]
        assume(holders_of_addresses)
        mailbox = data.draw(st.sampled_from(holders_of_addresses))
        address = mailbox.addresses[0]
        for sender, login, client in data.draw(st.lists(st.tuples(envelope_senders, logins, clients), min_size=4)):
            asked = Request(sender, address, login, client)
            wanted = built.ask(asked)
            for spelling in _spellings(built.world, mailbox.name, address):
                if _is_named_by_itself(built.world, address, spelling):
                    continue
                found = built.ask(asked._replace(recipient=spelling))
                assert found == wanted, f"{spelling} is not answered as {address}: {asked}"


def _spellings(world: World, name: str, address: str) -> list[str]:
    """Other spellings of the primary *address* of the mailbox *name*, none of which is an address of anybody."""
    local, _, domain = address.partition("@")
    delimiter = world.settings.recipient_delimiter[:1]
    locals_ = [local, local.upper(), f"prvs=12ab={local}"]
    if delimiter and not {*world.settings.recipient_delimiter} & {*local}:
        locals_ += [f"{local}{delimiter}zz", f"Prvs=12AB={local}{delimiter}zz"]

    # An alias domain where somebody has the address itself is not another spelling of it.
    forms = forms_of_local(world, local)
    aliases = [alias for alias, each in world.domains.items() if each.alias_of == domain]
    aliases = [alias for alias in aliases if not any(world.holder(f"{form}@{alias}") for form in forms)]
    domains = [domain, f"{domain.upper()}.", idna.decode(domain), *aliases]
    if "xn--strae-oqa.example" not in world.domains:
        domains += [each.replace("strasse", "straße") for each in domains if "strasse" in each]

    found = [f"{each}@{other}" for each in locals_ for other in domains]
    inside = [f"{encapsulated('SMTP', each)}@{HOME}" for each in found]
    inside += [f"{encapsulated('EX', '/O=ORG/CN=RECIPIENTS/CN=' + name)}@{other}" for other in (HOME, domain)]
    return [*found, *inside]


def _is_named_by_itself(world: World, address: str, spelling: str) -> bool:
    """Whether an entry's pattern meets only one of the two."""
    ours, theirs = patterns_matching(world, address), patterns_matching(world, spelling)
    return any(is_pattern(party) and (party in ours) != (party in theirs) for party in parties_in(world))


def joining_a_group_that_says_nothing_changes_no_answer(opened: Opened, data: st.DataObject) -> None:
    """It has no restriction, no entry and no acceptance."""
    made = data.draw(tables())
    questions = data.draw(question_lists)
    with opened(made.settings) as answerer:
        built = build(answerer, made.settings, made.commands)
        before = built.ask_all(questions)
        assert built.run("group", "add", "newcomers")
        for member in data.draw(st.lists(holders, min_size=1, max_size=4, unique=True)):
            built.run("group", "join", "newcomers", member)
        _must_be_same(questions, before, built)


def the_alias_domains_spelling_passes_no_block(opened: Opened, data: st.DataObject) -> None:
    """That the target's does not: as MAIL FROM, and as a login."""
    made = data.draw(tables())
    with opened(made.settings) as answerer:
        built = build(answerer, made.settings, made.commands)
        realms = {realm.casefold() for realm in made.settings.login_realms}
        aliases = [name for name, each in built.world.domains.items() if each.alias_of and name not in realms]
        assume(aliases)
        alias = data.draw(st.sampled_from(aliases))
        local = data.draw(st.sampled_from([*LOCALS, "ghost", "alice+x", "prvs=12ab=bob"]))
        there, here = f"{local}@{alias}", f"{local}@{built.world.domains[alias].alias_of}"
        assume(find(built.world, there).mailbox == find(built.world, here).mailbox)
        excepted = {party for entry in built.world.entries for party in entry.except_senders}
        only_there = patterns_matching(built.world, there) - patterns_matching(built.world, here)
        assume(not excepted & only_there)
        for recipient, other, client in data.draw(
            st.lists(st.tuples(recipients, envelope_senders, clients), min_size=4)
        ):
            for field, rest in (("sender", {"sasl_username": ""}), ("sasl_username", {"sender": other})):
                asked = Request(recipient=recipient, client_address=client)._replace(**rest)
                if built.ask(asked._replace(**{field: here})).rule == "blocked-sender":
                    found = built.ask(asked._replace(**{field: there}))
                    assert found.rule == "blocked-sender", f"{there} passes as {field}: {asked}, {found}"


def renaming_changes_no_answer(opened: Opened, data: st.DataObject) -> None:
    """But the name shown, and what is itself spelled by name: bare logins, and Exchange names in IMCEA."""
    made = data.draw(tables())
    realms = {realm.casefold() for realm in made.settings.login_realms}
    questions = [
        each
        for each in data.draw(question_lists)
        if "imceaex" not in f"{each}".lower() and not _is_by_name(each.sasl_username, realms)
    ]
    noun, old = data.draw(
        st.sampled_from([*(("mailbox", name) for name in NAMES), *(("group", name) for name in GROUPS)])
    )
    with opened(made.settings) as answerer:
        built = build(answerer, made.settings, made.commands)
        before = built.ask_all(questions)
        assume(built.run(noun, "rename", old, data.draw(st.sampled_from(["Aardvark", "zz top"]))))
        for question, was in zip(questions, before, strict=True):
            found = built.ask(question)
            assert (found.action, found.rule) == (was.action, was.rule), f"{question}: {was} became {found}"
            assert bool(found.entry) == bool(was.entry)


def _is_by_name(login: str, realms: set[str]) -> bool:
    _, at, domain = login.rpartition("@")
    return bool(login) and (not (at and domain) or "\\" in login or domain.casefold() in realms)


def no_managed_sender_opens_more_than_another_from_outside(opened: Opened, data: st.DataObject) -> None:
    """Anybody can write each of them. A sender who is blocked is another matter."""
    made = data.draw(tables())
    with opened(made.settings) as answerer:
        built = build(answerer, made.settings, made.commands)
        world = built.world
        managed = st.builds(
            "{}@{}".format, st.sampled_from([*LOCALS, "ghost", "alice+x"]), st.sampled_from([*world.domains])
        )
        one, other = data.draw(managed), data.draw(managed)
        for recipient in data.draw(st.lists(recipients, min_size=4)):
            asked = Request(recipient=recipient)
            found, against = (built.ask(asked._replace(sender=each)) for each in (one, other))
            if "blocked-sender" not in (found.rule, against.rule):
                assert found == against, f"to {recipient}, {one} and {other} are answered differently"


def one_more_block_opens_nothing(opened: Opened, data: st.DataObject) -> None:
    """Who was refused stays refused."""
    made = data.draw(tables())
    questions = data.draw(question_lists)
    with opened(made.settings) as answerer:
        built = build(answerer, made.settings, made.commands)
        words = block_words(data.draw)
        assume((words[2], words[4]) not in {(entry.who, entry.to) for entry in built.world.entries})
        before = built.ask_all(questions)
        assume(built.run(*words))
        for question, was in zip(questions, before, strict=True):
            found = built.ask(question)
            assert (was.action, found.action) != ("REJECT", "DUNNO"), f"{words} opens {question}"


def one_more_acceptance_or_exception_closes_nothing(opened: Opened, data: st.DataObject) -> None:
    """Who got through still does."""
    made = data.draw(tables())
    questions = data.draw(question_lists)
    with opened(made.settings) as answerer:
        built = build(answerer, made.settings, made.commands)
        kinds = [("mailbox", name) for name in NAMES] + [("group", name) for name in GROUPS] + [("domain", HOME)]
        kinds += [("sender", entry.who) for entry in built.world.entries]
        noun, name = data.draw(st.sampled_from(kinds))
        if noun != "sender":
            words = [noun, "accept", name, data.draw(senders)]
        elif data.draw(st.booleans()):
            words = ["sender", "except", name, "--except-sender", data.draw(senders)]
        else:
            words = ["sender", "except", name, data.draw(st.one_of(holders, patterns))]
        before = built.ask_all(questions)
        assume(built.run(*words))
        for question, was in zip(questions, before, strict=True):
            found = built.ask(question)
            assert (was.action, found.action) != ("DUNNO", "REJECT"), f"{words} closes {question}"


def what_has_ended_is_as_if_it_were_not_there(opened: Opened, data: st.DataObject) -> None:
    """Restrictions, opened mailboxes and entries."""
    made = data.draw(tables())
    questions = data.draw(question_lists)
    assume(made.commands != made.without_ended)
    assume(not made.blocks_again_what_ended())
    with opened(made.settings) as answerer:
        with_ended = build(answerer, made.settings, made.commands).ask_all(questions)
    with opened(made.settings) as answerer:
        _must_be_same(questions, with_ended, build(answerer, made.settings, made.without_ended))


def _must_be_same(questions: list[Request], before: list, built: Built) -> None:  # type: ignore[type-arg]
    for question, was in zip(questions, before, strict=True):
        found = built.ask(question)
        assert found == was, f"{question}: {was} became {found}"


def policyd_answers_as_the_model(opened: Opened, data: st.DataObject) -> None:
    """Each question in each world, and again when it has changed: nothing of the former one is remembered."""
    made = data.draw(tables())
    with opened(made.settings) as answerer:
        built = build(answerer, made.settings, made.commands)
        questions = data.draw(question_lists)
        _must_answer_as_the_model(built, questions)
        for line in data.draw(later_commands):
            built.run_line(line)
        _must_answer_as_the_model(built, questions)


def _must_answer_as_the_model(built: Built, questions: list[Request]) -> None:
    """Of what is always accepted the model does not say whose mailbox it is."""
    note(f"refused: {built.refused}")
    for question in questions:
        wanted, found = built.ask_the_model(question), built.ask(question)
        if wanted.rule == "always-accepted":
            found = found._replace(mailbox=wanted.mailbox)
        assert found == wanted, f"{question}: the model says {wanted}"


PROPERTIES = [
    every_spelling_of_an_address_answers_as_the_address,
    joining_a_group_that_says_nothing_changes_no_answer,
    the_alias_domains_spelling_passes_no_block,
    renaming_changes_no_answer,
    no_managed_sender_opens_more_than_another_from_outside,
    one_more_block_opens_nothing,
    one_more_acceptance_or_exception_closes_nothing,
    what_has_ended_is_as_if_it_were_not_there,
]
