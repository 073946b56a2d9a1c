"""Questions at random, most of them about what the administrator is changing."""

from random import Random

from tests.oracle.model import Request, Settings

NAMES = [f"m{number}" for number in range(12)]
GROUPS = ["staff", "Board", "all people", "sales"]  # there now and then
DOMAINS = ["example.com", "example.org"]  # managed, the second now and then, or as an alias domain of the first
ELSEWHERE = ["example.net", "partner.example", "a.bulk.example", "b.a.bulk.example", "bulk.example"]
PATTERNS = ["@partner.example", "@.bulk.example", "@.a.bulk.example", "m1@", "m2@example.net", "@example.net", "<>"]
REALMS = ["CORP", "corp.example"]
SETTINGS = Settings(login_realms=REALMS, insider_contexts=["submission"])
FIRST_TABLES = [
    "domain add example.com",
    "domain add example.org --alias-of example.com",
    *(f"mailbox add {name} {name}@example.com" for name in NAMES),
    f"group add {GROUPS[0]} {' '.join(NAMES[:6])}",
    f"group add {GROUPS[1]} {' '.join(NAMES[3:9])}",
]
STATES = ["RCPT"] * 12 + ["DATA", "END-OF-MESSAGE", "MAIL", "CONNECT", "EHLO", "VRFY", "ETRN"]


def question(random: Random, about: str = "") -> Request:
    """One question; *about* is a mailbox that it shall have to do with, if any."""
    state = random.choice(STATES)
    name = about or random.choice(NAMES)
    is_early = state in ("CONNECT", "EHLO")
    has_recipient = not is_early and state != "MAIL" and (state == "RCPT" or random.random() < 0.6)
    role = random.choice(["recipient", "sender", "login"])
    login = _login(random, name if role == "login" else random.choice(NAMES))
    return Request(
        protocol_state=state,
        sender="" if is_early else _sender(random, name if role == "sender" else random.choice(NAMES)),
        recipient=_recipient(random, name if role == "recipient" else random.choice(NAMES)) if has_recipient else "",
        sasl_username=login if role == "login" or random.random() < 0.2 else "",
        client_address=random.choice(["192.0.2.7"] * 6 + ["127.0.0.1", "2001:db8::1", "unknown"]),
        policy_context=random.choice(["", "inbound", "inbound", "submission"]),
    )


def _recipient(random: Random, name: str) -> str:
    managed = random.choice(DOMAINS)
    forms = [
        *[f"{name}@{managed}"] * 4,
        f"{name}+list-{random.randrange(1000)}@{managed}",
        f"{name.upper()}@{managed.upper()}",
        f"prvs={random.randrange(10**4):04}ab={name}@{managed}",
        f"IMCEAEX-_O=ORG_OU=SITE_CN=RECIPIENTS_CN={name.upper()}@{managed}",
        f"IMCEASMTP-{name}+40example+2Ecom@{managed}",
        f"{name}@{random.choice(ELSEWHERE)}",
        f"{name}+x@{random.choice(ELSEWHERE)}",
        f"nobody{random.randrange(1000)}@{managed}",
        f"postmaster@{managed}",
        "postmaster+x@example.net",
        "postmaster",
        "root",
    ]
    return random.choice(forms)


def _sender(random: Random, name: str) -> str:
    """An envelope sender; nothing ties it to the login, so that many are forged."""
    outside = f"{name}@{random.choice(ELSEWHERE)}"
    inside = f"{name}@{random.choice(DOMAINS)}"
    forms = ["", *[inside] * 3, *[outside] * 3, inside.replace("@", "+x@"), f"u{random.randrange(10**6)}@example.net"]
    return random.choice([*forms, f"prvs=0123ab={inside}", f"prvs=0123ab={outside}"])


def _login(random: Random, name: str) -> str:
    """Bare, with a domain, or with a realm."""
    addresses = [f"{name}@{domain}" for domain in DOMAINS]
    realm = random.choice(REALMS)
    return random.choice(
        [name, name.upper(), *addresses, f"{name}+x@example.org", f"{realm}\\{name}", f"{name}@{realm}", "stranger"]
    )
