"""The settings file: what may stand in it, and what an administrator is told of what may not."""

import os
from ipaddress import ip_network

import pytest

from policyd.endpoint import Endpoint, parse_endpoint
from policyd.errors import SettingsError
from policyd.model import Mode, Rule
from policyd.reply import DEFAULT_TEXTS
from policyd.settings import AuditSettings, Decisions, LineFormat, Settings, load_settings
from tests.support.command_line import command_line
from tests.support.required import as_root

KEYS = (
    "allow_insecure_database, allow_remote, always_accept, audit, database, group, http, idle_seconds, "
    "insider_contexts, insider_networks, listen, login_realms, max_connections, mode, origin, password_file, "
    "recipient_delimiter, replica, reply, request_seconds, user, workers"
)
ENDPOINTS = "allowed are unix:/path[:mode=660] and tcp:PORT[:interface=127.0.0.1], each with [:backlog=N]"
WORKERS = 'allowed are 1 to 64, and "auto" for one each processor'
REALM = "must be a realm as logins have it, such as EXAMPLE or example.local, without @ and \\"
FACILITIES = (
    "kern, user, mail, daemon, auth, syslog, lpr, news, uucp, cron, authpriv, ftp, "
    "local0, local1, local2, local3, local4, local5, local6, local7"
)


@pytest.fixture
def load(tmp_path):
    """The settings of a file that holds this text."""

    def load(text, **options):
        file = tmp_path / "policyd.toml"
        file.write_text(text, encoding="utf-8")
        return load_settings(file, **options)

    return load


def test_empty_file_is_all_defaults(load):
    """A new administrator writes nothing."""
    assert load("") == Settings()
    assert Settings() == Settings(
        database="sqlite:////var/lib/policyd/policyd.db",
        listen=(),
        workers=1,
        allow_remote=False,
        user="",
        group="",
        max_connections=1000,
        idle_seconds=600,
        request_seconds=30,
        recipient_delimiter="+",
        origin="",
        login_realms=frozenset(),
        insider_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")),
        insider_contexts=frozenset(),
        always_accept=frozenset({"postmaster"}),
        mode=Mode.ENFORCE,
        audit=AuditSettings(Decisions.ALL, "unix:/dev/log", "mail", LineFormat.TEXT),
        reply=DEFAULT_TEXTS,
    )


def test_every_key_can_be_set(load):
    """To something else than its default."""
    settings = load(
        """
        database = "sqlite:////srv/policyd.db"
        listen = ["unix:/run/policyd.sock:mode=600", "tcp:10040"]
        workers = 4
        allow_remote = true
        user = "policyd"
        group = "postfix"
        max_connections = 5000
        idle_seconds = 1200
        request_seconds = 10
        recipient_delimiter = "+-"
        origin = "Bücher.example"
        login_realms = ["EXAMPLE", "Bücher.Example", "Büro 1"]
        insider_networks = ["192.0.2.0/24", "[2001:db8::]/32", "198.51.100.7"]
        insider_contexts = ["submission"]
        always_accept = ["postmaster", "Abuse"]
        mode = "monitor"
        [audit]
        decisions = "rejects"
        syslog = "udp:[::1]:514"
        facility = "local3"
        format = "json"
        [reply]
        restricted-recipient = "5.7.2 {mailbox} takes no mail from {sender}"
        """
    )
    assert settings == Settings(
        database="sqlite:////srv/policyd.db",
        listen=(
            Endpoint("unix:/run/policyd.sock:mode=600", path="/run/policyd.sock", mode=0o600),
            Endpoint("tcp:10040", port=10040),
        ),
        workers=4,
        allow_remote=True,
        user="policyd",
        group="postfix",
        max_connections=5000,
        idle_seconds=1200,
        request_seconds=10,
        recipient_delimiter="+-",
        origin="xn--bcher-kva.example",
        login_realms=frozenset({"example", "xn--bcher-kva.example", "büro 1"}),
        insider_networks=tuple(map(ip_network, ("192.0.2.0/24", "2001:db8::/32", "198.51.100.7"))),
        insider_contexts=frozenset({"submission"}),
        always_accept=frozenset({"postmaster", "Abuse"}),
        mode=Mode.MONITOR,
        audit=AuditSettings(Decisions.REJECTS, "udp:[::1]:514", "local3", LineFormat.JSON),
        reply=DEFAULT_TEXTS | {Rule.RESTRICTED_RECIPIENT: "5.7.2 {mailbox} takes no mail from {sender}"},
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("databse = 'x'", f"unknown key databse (did you mean database?); allowed are {KEYS}"),
        ("modes = 1\nusr = 1", f"unknown key modes (did you mean mode?), usr (did you mean user?); allowed are {KEYS}"),
        ("'a\\u001Bb' = 1".replace("'", '"'), f"unknown key 'a\\x1bb'; allowed are {KEYS}"),
        ("syslog = 'none'", f"unknown key syslog (it belongs into [audit]); allowed are {KEYS}"),
        (
            "[audit]\nmode = 'monitor'",
            "audit: unknown key mode (it belongs above [audit]); allowed are decisions, facility, format, syslog",
        ),
        ("b = 1\na = 1", f"unknown key a, b; allowed are {KEYS}"),
        ("database = 5", "database: 5: must be a text in quotes"),
        (
            "database = 'policyd.db'",
            "database: 'policyd.db': must be sqlite:////absolute/path.db, or postgresql://HOST/NAME",
        ),
        ("database = ''", "database: '': must be sqlite:////absolute/path.db, or postgresql://HOST/NAME"),
        (
            "database = 'mysql://x'",
            "database: 'mysql://x': must be sqlite:////absolute/path.db, or postgresql://HOST/NAME",
        ),
        ("listen = 'tcp:1'", "listen: 'tcp:1': must be a list of texts in quotes"),
        ("listen = [1]", "listen: [1]: must be a list of texts in quotes"),
        ("listen = ['udp:1']", f"listen: 'udp:1': {ENDPOINTS}"),
        ("workers = 0", f"workers: 0: {WORKERS}"),
        ("workers = 65", f"workers: 65: {WORKERS}"),
        ("workers = true", f"workers: True: {WORKERS}"),
        ("workers = 'Auto'", f"workers: 'Auto': {WORKERS}"),
        ("workers = '2'", f"workers: '2': {WORKERS}"),
        ("allow_remote = 'yes'", "allow_remote: 'yes': allowed are true and false"),
        ("allow_remote = 1", "allow_remote: 1: allowed are true and false"),
        ("user = 65534", "user: 65534: must be a text in quotes"),
        ("user = 'a b'", "user: 'a b': must be a name, as in /etc/passwd or /etc/group"),
        ("group = 'a:b'", "group: 'a:b': must be a name, as in /etc/passwd or /etc/group"),
        ("max_connections = 0", "max_connections: 0: allowed are 1 to 65536"),
        ("max_connections = true", "max_connections: True: allowed are 1 to 65536"),
        ("max_connections = '100'", "max_connections: '100': allowed are 1 to 65536"),
        ("idle_seconds = 0", "idle_seconds: 0: allowed are 1 to 86400"),
        ("idle_seconds = 86401", "idle_seconds: 86401: allowed are 1 to 86400"),
        ("request_seconds = 1.5", "request_seconds: 1.5: allowed are 1 to 3600"),
        ("recipient_delimiter = 5", "recipient_delimiter: 5: must be a text in quotes"),
        (
            "recipient_delimiter = 'a'",
            "recipient_delimiter: 'a': must be a set of punctuation characters, as Postfix's recipient_delimiter",
        ),
        (
            "recipient_delimiter = '@'",
            "recipient_delimiter: '@': must be a set of punctuation characters, as Postfix's recipient_delimiter",
        ),
        ("origin = ['x']", "origin: ['x']: must be a text in quotes"),
        ("origin = 'a b'", "origin: 'a b' is not a domain; a domain looks like example.com"),
        ("insider_networks = '::1'", "insider_networks: '::1': must be a list of texts in quotes"),
        (
            "insider_networks = ['192.0.2.1/24']",
            "insider_networks: 192.0.2.1/24 has host bits set; must be networks such as 192.0.2.0/24 and 2001:db8::/32",
        ),
        (
            "insider_networks = ['lan']",
            (
                "insider_networks: 'lan' does not appear to be an IPv4 or IPv6 network; "
                "must be networks such as 192.0.2.0/24 and 2001:db8::/32"
            ),
        ),
        (
            "insider_networks = ['!192.0.2.1']",
            (
                "insider_networks: '!192.0.2.1': exceptions are not known here; "
                "name the networks that are left without it"
            ),
        ),
        (
            "insider_networks = ['10.0.0.0/8 [::1]/128']",
            (
                "insider_networks: '10.0.0.0/8 [::1]/128': must be one network in each text, "
                'as in ["192.0.2.0/24", "[2001:db8::]/32"]'
            ),
        ),
        ("login_realms = 'EXAMPLE'", "login_realms: 'EXAMPLE': must be a list of texts in quotes"),
        ("login_realms = ['']", f"login_realms: '': {REALM}"),
        ("login_realms = ['@example.local']", f"login_realms: '@example.local': {REALM}"),
        ("login_realms = ['EXAMPLE\\']", f"login_realms: 'EXAMPLE\\\\': {REALM}"),
        (
            'login_realms = ["a\\u0001"]',
            "login_realms: the realm 'a\\x01' holds a control character; type it without",
        ),
        ("insider_contexts = 'x'", "insider_contexts: 'x': must be a list of texts in quotes"),
        (
            "insider_contexts = ['a', '']",
            'insider_contexts: "" would make everybody an insider; name the policy_context that you set in master.cf',
        ),
        ("always_accept = 'x'", "always_accept: 'x': must be a list of texts in quotes"),
        ("always_accept = ['a@b']", "always_accept: 'a@b': must be local parts, without @ and domain"),
        ("always_accept = ['']", "always_accept: '': must be local parts, without @ and domain"),
        (
            'always_accept = ["a\\u0001"]',
            "always_accept: the local part 'a\\x01' holds a control character; type it without",
        ),
        ("mode = 'Enforce'", "mode: 'Enforce': allowed are enforce, monitor"),
        ("mode = true", "mode: True: allowed are enforce, monitor"),
        ("audit = 'x'", "audit: 'x': must be a table, [audit]"),
        ("[audit]\nfile = 'x'", "audit: unknown key file; allowed are decisions, facility, format, syslog"),
        ("[audit]\ndecisions = 'some'", "audit.decisions: 'some': allowed are all, rejects, none"),
        (
            "[audit]\nsyslog = '/dev/log'",
            "audit.syslog: '/dev/log': allowed are unix:/path, udp:HOST:PORT, stderr and none",
        ),
        (
            "[audit]\nsyslog = 'udp:h:65536'",
            "audit.syslog: 'udp:h:65536': allowed are unix:/path, udp:HOST:PORT, stderr and none",
        ),
        (
            "[audit]\nsyslog = 'udp:h:0'",
            "audit.syslog: 'udp:h:0': allowed are unix:/path, udp:HOST:PORT, stderr and none",
        ),
        ("[audit]\nsyslog = 5", "audit.syslog: 5: must be a text in quotes"),
        ("[audit]\nfacility = 'LOG_MAIL'", f"audit.facility: 'LOG_MAIL': allowed are {FACILITIES}"),
        ("[audit]\nfacility = ['mail']", f"audit.facility: ['mail']: allowed are {FACILITIES}"),
        ("[audit]\nformat = 'xml'", "audit.format: 'xml': allowed are text, json"),
        ("reply = 'no'", "reply: 'no': must be a table, [reply]"),
        (
            "[reply]\ndefault = 'no'",
            "reply: unknown key default; allowed are blocked-sender, restricted-recipient, unlisted-recipient",
        ),
        ("[reply]\nblocked-sender = 5", "reply.blocked-sender: 5: must be a text in quotes"),
        ("[reply]\nblocked-sender = ''", "reply.blocked-sender: '' must not be empty"),
        (
            "[reply]\nblocked-sender = '{who}'",
            (
                "reply.blocked-sender: '{who}' may hold {recipient}, {sender}, {mailbox} and {reason}, "
                "and no other braces"
            ),
        ),
        (
            "[reply]\nblocked-sender = '4.7.1 later'",
            (
                "reply.blocked-sender: '4.7.1 later' may start with an enhanced status code 5.x.x only, "
                "since the reply is permanent"
            ),
        ),
        ("mode = ", "not TOML: Invalid value (at end of document)"),
        ("mode = 'enforce'\nmode = 'monitor'", "not TOML: Cannot overwrite a value (at end of document)"),
    ],
    ids=lambda text: text.replace("\n", " "),
)
def test_mistake_is_told_with_file_key_and_what_is_allowed(load, tmp_path, text, told):
    """On one line, for a log."""
    with pytest.raises(SettingsError) as caught:
        load(text)
    assert str(caught.value) == f"{tmp_path}/policyd.toml: {told}"


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("[::1]/128", "::1/128"),
        ("[2001:db8::]/32", "2001:db8::/32"),
        ("[2001:db8::/32]", "2001:db8::/32"),
        ("[2001:DB8::7]", "2001:db8::7/128"),
        ("[192.0.2.0]/24", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("[::ffff:127.0.0.0]/104", "127.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::/0", "::/0"),
    ],
)
def test_networks_are_read_as_postfix_writes_them(load, text, network):
    """What `postconf -hx mynetworks` prints can be copied, also where it has IPv4 addresses in IPv6 ones."""
    assert load(f"insider_networks = ['{text}']").insider_networks == (ip_network(network),)


@pytest.mark.parametrize("text", ["/etc/postfix/networks", "hash:/etc/postfix/networks", "static:all", "proxy:cidr:/x"])
def test_files_and_tables_of_mynetworks_are_refused(load, text):
    """A network that is silently missing shuts colleagues out."""
    with pytest.raises(SettingsError) as caught:
        load(f"insider_networks = ['{text}']")
    assert str(caught.value).endswith(
        f"insider_networks: {text!r}: files and tables are not read here; name the networks that are in it"
    )


@pytest.mark.parametrize("text", ["[::1", "[::1]x", "[::1]/", "[::1]/129", "[10.0.0.0]/255.0.0.0", "$mynetworks", ""])
def test_what_is_no_network_is_refused(load, text):
    """On one line, with two networks to copy."""
    with pytest.raises(SettingsError, match=r"must be networks such as 192\.0\.2\.0/24 and 2001:db8::/32$"):
        load(f"insider_networks = ['{text}']")


def test_all_mistakes_are_told_at_once(load, tmp_path):
    """Nobody wants to start a daemon five times to learn of five mistakes."""
    with pytest.raises(SettingsError) as caught:
        load(
            "mode = 5\nmodus = 1\nallow_remote = 'no'\n[audit]\nformat = 'xml'\nfile = 'x'\n"
            "[reply]\nfoo = 'x'\nblocked-sender = ''\n"
        )
    assert str(caught.value).removeprefix(f"{tmp_path}/policyd.toml: ").split("; ") == [
        "allow_remote: 'no': allowed are true and false",
        "mode: 5: allowed are enforce, monitor",
        *("unknown key modus (did you mean mode?)", f"allowed are {KEYS}"),
        "audit.format: 'xml': allowed are text, json",
        *("audit: unknown key file", "allowed are decisions, facility, format, syslog"),
        "reply.blocked-sender: '' must not be empty",
        *("reply: unknown key foo", "allowed are blocked-sender, restricted-recipient, unlisted-recipient"),
    ]


# --- The file ---


def test_missing_file_is_an_error_only_where_it_was_asked_for(policyd, tmp_path):
    """The default file is optional."""
    assert policyd.refuses(f"domain list --config {tmp_path}/none.toml", 78) == (
        f"policyd: {tmp_path}/none.toml: there is no such settings file"
    )


@pytest.fixture
def policyd():
    with command_line() as policyd:
        yield policyd


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        pytest.param(b"mode = \xff", "not TOML: 'utf-8' codec can't decode byte 0xff in position 7", id="not UTF-8"),
        pytest.param(b"\x7fELF\x00\x01", "not TOML: Invalid statement (at line 1, column 1)", id="a program"),
        pytest.param(b"\xef\xbb\xbfmode = 'enforce'", "not TOML: Invalid statement", id="a byte order mark"),
        pytest.param(b"mode: enforce\n", "not TOML: Expected '=' after a key", id="YAML"),
    ],
)
def test_file_that_is_not_toml_is_refused(policyd, raw, told):
    """With one line and exit 78, as any command finds it."""
    policyd.settings.write_bytes(raw)
    assert policyd.refuses("domain list", 78).startswith(f"policyd: {policyd.settings}: {told}")


def test_folder_is_no_settings_file(policyd, tmp_path):
    """The operating system's own words."""
    assert policyd.refuses(f"domain list --config {tmp_path}", 78) == f"policyd: {tmp_path}: Is a directory"
    assert policyd.refuses("domain list --config ''", 78) == "policyd: .: Is a directory"


@as_root
def test_unreadable_file_is_no_missing_file(load, tmp_path):
    """Else a daemon without its settings would run on the defaults."""
    load("")
    os.seteuid(65534)
    try:
        with pytest.raises(SettingsError) as caught:
            load_settings(tmp_path / "policyd.toml")
    finally:
        os.seteuid(0)
    assert str(caught.value) == f"{tmp_path}/policyd.toml: Permission denied"


# --- Where to listen ---


@pytest.mark.parametrize(
    ("text", "endpoint", "is_local"),
    [
        ("unix:/run/p.sock", {"path": "/run/p.sock"}, True),
        ("unix:/run/p.sock:mode=600", {"path": "/run/p.sock", "mode": 0o600}, True),
        ("unix:address=/run/p.sock:backlog=9", {"path": "/run/p.sock", "backlog": 9}, True),
        ("unix:/run/a\\:b=c", {"path": "/run/a:b=c"}, True),
        ("tcp:10040", {"port": 10040}, False),
        ("tcp:10040:interface=127.0.0.1", {"port": 10040, "interface": "127.0.0.1"}, True),
        ("tcp:port=10040:interface=localhost", {"port": 10040, "interface": "127.0.0.1"}, True),
        ("tcp:10040:interface=127.8.9.1", {"port": 10040, "interface": "127.8.9.1"}, True),
        ("tcp:10040:interface=\\:\\:1", {"port": 10040, "interface": "::1"}, True),
        ("tcp6:10040:interface=\\:\\:1", {"port": 10040, "interface": "::1"}, True),
        ("tcp6:10040", {"port": 10040, "interface": "::"}, False),
        ("tcp:10040:interface=0.0.0.0", {"port": 10040, "interface": "0.0.0.0"}, False),
        ("tcp:10040:interface=192.0.2.7", {"port": 10040, "interface": "192.0.2.7"}, False),
        ("tcp:0:interface=127.0.0.1", {"port": 0, "interface": "127.0.0.1"}, True),
        ("tcp6:1:interface=127.0.0.1", {"port": 1, "interface": "127.0.0.1"}, True),
        ("tcp6:1:interface=", {"port": 1, "interface": ""}, False),
        ("tcp:1:interface=", {"port": 1, "interface": ""}, False),
        ("tcp:1:interface=\\:\\:", {"port": 1, "interface": "::"}, False),
        ("tcp:1:interface=\\:\\:ffff\\:127.0.0.1", {"port": 1, "interface": "::ffff:127.0.0.1"}, True),
        ("tcp:1:interface=\\:\\:ffff\\:192.0.2.7", {"port": 1, "interface": "::ffff:192.0.2.7"}, False),
        ("tcp:1:interface=\\:\\:ffff\\:0.0.0.0", {"port": 1, "interface": "::ffff:0.0.0.0"}, False),
        ("tcp:1:interface=fe80\\:\\:1%lo", {"port": 1, "interface": "fe80::1%lo"}, False),
    ],
)
def test_endpoint_is_read_as_twisted_reads_it(text, endpoint, is_local):
    """And whether another machine can reach it."""
    assert parse_endpoint(text) == Endpoint(text, **endpoint)
    assert parse_endpoint(text).is_local is is_local


@pytest.mark.parametrize(
    "text",
    [
        *("", "tcp", "tcp:", "tcp:x", "tcp:65536", "tcp:-1", "tcp:1:2", "tcp:interface=127.0.0.1", "10040"),
        *("tcp:1:interface=::1", "tcp:1:interface=mail.example.com", "tcp:1:mode=600", "tcp:1:interface=localhosts"),
        *(
            "unix:",
            "unix:run/p.sock",
            "unix:/p:mode=999",
            "unix:/p:mode=1777",
            "unix:/p:mode=",
            "unix:/p:interface=::1",
        ),
        *(
            "unix:/p:lockfile=0",
            "unix:/p:backlog=0",
            "unix:/p:backlog=-5",
            "unix:/p\0q",
            "ssl:1",
            "systemd:domain=UNIX",
        ),
        *("127.0.0.1:10040", "/run/p.sock", "UNIX:/p"),
    ],
)
def test_endpoint_that_cannot_be_is_refused(text):
    """With the forms that can."""
    with pytest.raises(ValueError, match=r"unix:/path") as caught:
        parse_endpoint(text)
    assert str(caught.value) == f"{text!r}: {ENDPOINTS}"


REMOTE = (
    "listen: {} can be reached from other machines, and anybody who reaches it can find out who has a mailbox; "
    "add interface=127.0.0.1 to it, or say allow_remote = true in the settings file"
)


@pytest.mark.parametrize("text", ["tcp:10040", "tcp:10040:interface=192.0.2.7", "tcp6:10040"])
def test_listening_to_the_world_must_be_asked_for(load, tmp_path, text):
    """In so many words, wherever the endpoint was named."""
    with pytest.raises(SettingsError) as caught:
        load(f"listen = ['unix:/p', '{text}']")
    assert str(caught.value) == f"{tmp_path}/policyd.toml: {REMOTE.format(text)}"
    with pytest.raises(SettingsError) as caught:
        load("", listen=["unix:/p", text])
    assert str(caught.value) == REMOTE.format(text)
    assert load("allow_remote = true", listen=[text]).listen == (parse_endpoint(text),)


def test_option_listens_instead_of_the_setting(load):
    """Not besides it."""
    assert load("listen = ['tcp:10040']", listen=["unix:/p"]).listen == (parse_endpoint("unix:/p"),)


# --- How many workers ---


def test_option_gives_the_workers_instead_of_the_setting(load):
    """As typed, which is a text."""
    assert load("workers = 2", workers="3").workers == 3
    assert load("workers = 2").workers == 2
    assert load("workers = 2", workers="auto").workers == load("workers = 'auto'").workers
    assert load("workers = 'auto'").workers == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("typed", ["0", "65", "-1", "two", "1.5", "", "Auto"])
def test_option_that_is_no_number_of_workers_is_refused(load, typed):
    """With what is allowed."""
    with pytest.raises(SettingsError, match=f"{WORKERS}$"):
        load("", workers=typed)
