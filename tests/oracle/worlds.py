"""Random worlds: what administrators might type, and who might then ask, out of few words so that everything meets."""

import copy
import shlex
import string
from dataclasses import dataclass, field

import idna
from hypothesis import strategies as st

from tests.oracle.answerers import Answerer, ModelAnswerer
from tests.oracle.commands import moment
from tests.oracle.model import Answer, Request, Settings, World

NOW = moment("2095-01-01T00:00Z")  # when questions are asked; commands are typed long before
ENDED, LATER = "2090-01-01T00:00Z", "2099-01-01T00:00Z"

HOME = "example.com"  # always managed
DOMAINS = ("customer.example", "strasse.example", "xn--bcher-kva.example", "alias.example")
FOREIGN = ("partner.example", "mail.partner.example", "sub.example.com")
LOCALS = ("alice", "bob", "carol", "info", "bob+list")
NAMES = ("alice", "Bob", "Carol Jones", "info")
GROUPS = ("staff", "Board", "all people")
REALMS = ("EXAMPLE", "example.local", "customer.example")

addresses = st.builds("{}@{}".format, st.sampled_from(LOCALS), st.sampled_from((HOME, HOME, HOME, *DOMAINS, *FOREIGN)))
patterns = st.one_of(
    addresses,
    st.sampled_from([f"@{domain}" for domain in (HOME, *DOMAINS, *FOREIGN)]),
    st.sampled_from(["@.example", "@.example.com", "@.partner.example", "alice@", "bob@", "info@"]),
)
_ELSEWHERE = [f"{local}@{domain}" for local in LOCALS for domain in DOMAINS]
holders = st.sampled_from([*NAMES, *(f"group:{name}" for name in GROUPS)])
senders = st.one_of(holders, patterns, st.just("<>"))  # as an exception, or accepted


@dataclass
class Tables:
    """Settings, and commands in the order in which they are typed; `without_ended` are those without what has ended."""

    settings: Settings
    commands: list[str] = field(default_factory=list)
    without_ended: list[str] = field(default_factory=list)

    def type(self, words: list[str], *, instead: list[str] | None = None) -> None:
        """Add a command; *instead* is what it is without what has ended in it, [] for nothing."""
        self.commands.append(shlex.join(words))
        if instead != []:
            self.without_ended.append(shlex.join(words if instead is None else instead))

    def blocks_again_what_ended(self) -> bool:
        """Whether an entry with an end that passes is blocked by another command, too: that keeps the end."""
        left = {_entry_of(command) for command in self.without_ended} - {None}
        return any(
            _entry_of(command) in left - {None} for command in self.commands if command not in self.without_ended
        )


def _entry_of(command: str) -> tuple[str, ...] | None:
    """Who is blocked by a command, and to whom; None where it blocks nobody."""
    noun, verb, name, *rest = shlex.split(command)
    return (name, *rest[rest.index("--to") + 1 :][:1]) if (noun, verb) == ("sender", "block") else None


@st.composite
def tables(draw) -> Tables:
    """Tables with a few of everything. Some commands may be refused."""
    made = Tables(draw(_settings()))
    _domains(draw, made)
    at_home = draw(st.permutations([f"{local}@{HOME}" for local in LOCALS]))
    elsewhere = draw(st.lists(st.sampled_from(_ELSEWHERE), max_size=6, unique=True))
    for number, name in enumerate(NAMES):
        made.type(["mailbox", "add", name])
        others = elsewhere[number :: len(NAMES)]
        own = draw(st.sampled_from([[], at_home[number : number + 1], at_home[number : number + 1]]))
        for address in draw(st.sampled_from([[*own, *others], [*others, *own]])):
            made.type(["address", "add", name, address])
    for name in GROUPS:
        made.type(["group", "add", name])
    for name in GROUPS:
        for member in draw(st.lists(holders, min_size=1, max_size=4, unique=True)):
            made.type(["group", "join", name, member])
    for noun, names in (("mailbox", NAMES), ("group", GROUPS), ("domain", (HOME, *DOMAINS[:2]))):
        for name in names:
            _restriction(draw, made, noun, name)
    for _ in range(draw(st.integers(0, 6))):
        _entry(draw, made)
    return made


def _settings():
    return st.builds(
        Settings,
        origin=st.sampled_from(["", HOME, "customer.example", "alias.example"]),
        recipient_delimiter=st.sampled_from(["+", "+", "+-", ""]),
        login_realms=st.lists(st.sampled_from(REALMS), unique=True),
        insider_contexts=st.sampled_from([[], ["submission"]]),
    )


def _domains(draw, made: Tables) -> None:
    made.type(["domain", "add", HOME, "--unlisted", draw(st.sampled_from(["reject", "accept"]))])
    for name in DOMAINS:
        kind = draw(st.sampled_from(["reject", "accept", "alias", "alias", "foreign"]))
        if kind == "alias":
            made.type(["domain", "add", name, "--alias-of", draw(st.sampled_from([HOME, HOME, *DOMAINS[:2]]))])
        elif kind != "foreign":
            made.type(["domain", "add", name, "--unlisted", kind])


def _restriction(draw, made: Tables, noun: str, name: str) -> None:
    some = ["nothing", "nothing", "nothing", "open"] if noun == "mailbox" else ["nothing"]
    what = draw(st.sampled_from([*some, "insiders", "domain", "nobody"]))
    accepted = draw(st.lists(senders, max_size=2, unique=True))
    ends, has_ended = _end(draw)
    accepts = [noun, "accept", name, *accepted] if accepted and noun == "mailbox" else []
    if what == "open":
        made.type(["mailbox", "open", name, *ends], instead=[] if has_ended else None)
    elif what == "nothing":
        if accepts:
            made.type(accepts)
    else:
        words = [noun, "restrict", name, "--receive", what, *ends, "--reason", f"{what} {name}"]
        words += [word for party in accepted for word in ("--accept", party)]
        made.type(words, instead=accepts if has_ended else None)  # what a mailbox accepts stays, without its own end


def _entry(draw, made: Tables) -> None:
    ends, has_ended = _end(draw)
    words = block_words(draw)
    kind = draw(st.sampled_from(["none", "none", "recipients", "senders", "both"]))
    if kind in ("recipients", "both"):
        words += ["--except", draw(st.one_of(holders, patterns))]
    if kind in ("senders", "both"):
        words += ["--except-sender", draw(senders)]
    made.type([*words, *ends], instead=[] if has_ended else None)


def block_words(draw) -> list[str]:
    """A command that blocks somebody, without exceptions and for good."""
    who = draw(st.one_of(holders, senders, st.just("anyone")))
    to = draw(st.one_of(st.sampled_from(["outside", "anyone"]), st.just("anyone"), holders, patterns))
    return ["sender", "block", who, "--to", to]


def _end(draw) -> tuple[list[str], bool]:
    """The options that say when something ends, and whether that has passed when questions are asked."""
    end = draw(st.sampled_from(["", "", "", ENDED, LATER]))
    return (["--until", end] if end else []), end == ENDED


_names = st.sampled_from(NAMES)
_groups = st.sampled_from(GROUPS)
_domains_there = st.sampled_from((HOME, *DOMAINS))
later_commands = st.lists(  # what takes away and turns round, in tables that were asked before
    st.one_of(
        st.builds("mailbox remove '{}'".format, _names),
        st.builds("mailbox rename '{}' '{}'".format, _names, st.sampled_from([*NAMES, "Dora"])),
        st.builds("group remove '{}'".format, _groups),
        st.builds("group rename '{}' '{}'".format, _groups, st.sampled_from([*GROUPS, "dancers"])),
        st.builds("group leave '{}' '{}'".format, _groups, holders),
        st.builds("group join '{}' '{}'".format, _groups, holders),
        st.builds("address remove '{}'".format, addresses),
        st.builds("address add '{}' '{}'".format, _names, addresses),
        st.builds("domain set {} --no-alias".format, _domains_there),
        st.builds("domain set {} --alias-of {}".format, _domains_there, _domains_there),
        st.builds("domain set {} --unlisted {}".format, _domains_there, st.sampled_from(["accept", "reject"])),
        st.builds("domain remove {} --yes".format, st.sampled_from(DOMAINS)),
        st.builds("domain add {}".format, st.sampled_from((*DOMAINS, *FOREIGN))),
        st.builds("mailbox lift '{}'".format, _names),
        st.builds("mailbox restrict '{}' --receive {}".format, _names, st.sampled_from(["insiders", "nobody"])),
        st.builds("mailbox open '{}'".format, _names),
        st.builds("group lift '{}'".format, _groups),
        st.builds("domain lift {}".format, _domains_there),
        st.builds("sender unblock '{}'".format, st.one_of(holders, patterns, st.sampled_from(["<>", "anyone"]))),
    ),
    max_size=4,
)


# --- Questions


@st.composite
def spelled(draw) -> str:
    """An address in some spelling, such as comes over the wire."""
    address: str = draw(addresses)
    local, _, domain = address.partition("@")
    form = draw(st.sampled_from(["plain", "plain", "plain", "upper", "extension", "tag", "inside", "letters", "bare"]))
    if form == "bare":
        return local
    if form == "letters":
        return f"{local}@{domain.replace('ss', 'ß') if 'ss' in domain else idna.decode(domain)}"
    if form == "inside":
        return f"{encapsulated('SMTP', f'{local}@{domain}')}@{draw(st.sampled_from((HOME, 'alias.example')))}"
    marks = {"upper": f"{local.upper()}@{domain.upper()}.", "extension": f"{local}+x@{domain}"}
    return marks.get(form, f"prvs=12ab={local}@{domain}" if form == "tag" else f"{local}@{domain}")


def encapsulated(kind: str, text: str) -> str:
    """The local part of an IMCEA address, as Exchange writes it."""
    plain = {ord("/"): "_"} | {ord(each): each for each in f"{string.ascii_letters}{string.digits}-="}
    return f"IMCEA{kind}-{''.join(plain.get(byte, f'+{byte:02X}') for byte in text.encode())}"


recipients = st.one_of(
    spelled(),
    spelled(),
    st.sampled_from([f"nobody@{HOME}", "nobody@alias.example", f"postmaster@{HOME}", "POSTMASTER+x@alias.example"]),
    st.builds("IMCEAEX-_O=ORG_CN={}@{}".format, st.sampled_from(["ALICE", "bob", "Carol+20Jones"]), st.just(HOME)),
)
envelope_senders = st.one_of(st.just(""), spelled(), spelled())
logins = st.one_of(
    *[st.just("")] * 5,
    spelled(),
    st.sampled_from([*NAMES, "ALICE", "ghost", "alice@", f"ghost@{HOME}", "Carol Jones@example.local"]),
    st.builds("{}@{}".format, st.sampled_from(LOCALS), st.sampled_from(["example.local", "EXAMPLE.LOCAL"])),
    st.builds("{}\\{}".format, st.sampled_from(["EXAMPLE", "example", "OTHER"]), st.sampled_from(NAMES)),
)
clients = st.sampled_from(["192.0.2.7", "192.0.2.7", "127.0.0.1"])


@st.composite
def requests(draw) -> Request:
    """Somebody's question."""
    state = draw(st.sampled_from([*["RCPT"] * 15, "DATA", "MAIL", "CONNECT", "EHLO", "END-OF-MESSAGE", "VRFY"]))
    recipient = draw(recipients) if state == "RCPT" else ""
    sender = "" if state in ("CONNECT", "EHLO") else draw(envelope_senders)
    context = draw(st.sampled_from(["", "", "", "submission"]))
    return Request(sender, recipient, draw(logins), draw(clients), context, state)


question_lists = st.lists(requests(), min_size=8, max_size=16)


class Built:
    """An answerer with tables made by commands; `world` is what the model makes of those that were done."""

    def __init__(self, answerer: Answerer, settings: Settings) -> None:
        self._answerer = answerer
        self._model = answerer if isinstance(answerer, ModelAnswerer) else ModelAnswerer(settings)
        self.refused: list[str] = []

    @property
    def world(self) -> World:
        """The world as the model sees it."""
        return self._model.world

    def run(self, *words: str) -> bool:
        """Do a command of these words; whether it was done."""
        return self.run_line(shlex.join(words))

    def run_line(self, line: str) -> bool:
        """Do a command as it is typed. What only the model would do is not done."""
        if self._answerer is self._model:
            return self._model.run(line)
        before = copy.deepcopy(self._model.world)
        if not self._model.run(line):
            return False
        if not self._answerer.run(line):
            self._model.world = before
            self.refused.append(line)
        return self._model.world is not before

    def run_all(self, lines: list[str]) -> None:
        """Do commands as they are typed; those that either refuses are left out."""
        if self._answerer is self._model:
            self._model.run_all(lines)
            return
        wanted = ModelAnswerer(self.world.settings).run_all(lines)
        done = self._answerer.run_all(wanted)
        self.refused += [line for line in wanted if line not in done]
        assert self._model.run_all(done) == done, "the model refuses what policyd does"

    def ask(self, request: Request, now: int = NOW) -> Answer:
        """The answer of the answerer."""
        return self._answerer.ask(request, now)

    def ask_all(self, questions: list[Request]) -> list[Answer]:
        """The answer to each."""
        return [self.ask(question) for question in questions]

    def ask_the_model(self, request: Request, now: int = NOW) -> Answer:
        """The answer of the model to the same, in the same world."""
        return self._model.ask(request, now)


def build(answerer: Answerer, settings: Settings, commands: list[str]) -> Built:
    """The tables that *commands* make; those that are refused are left out."""
    built = Built(answerer, settings)
    built.run_all(commands)
    return built
