"""A good configuration, with one thing as people have it elsewhere: what must be found of it, and nothing else."""

from collections.abc import Mapping

import pytest

from .sites import MakeSite, codes

SUBMISSION = (
    "  -o { smtpd_recipient_restrictions =\n       check_policy_service { unix:policyd/policyd.sock, timeout=5s, "
    "{ default_action = 451 4.3.5 policy service unavailable }, policy_context=submission },\n"
    "       permit_sasl_authenticated, reject }"
)
RELAY_END = "permit_sasl_authenticated, reject_unauth_destination\nsmtpd_recipient"
VARIANTS: Mapping[str, tuple[Mapping[str, str], str, set[str]]] = {
    "submission with an empty list": ({SUBMISSION: "  -o smtpd_recipient_restrictions="}, "", {"check-overridden"}),
    "submission with a variable that nobody sets": (
        {SUBMISSION: "  -o smtpd_recipient_restrictions=$mua_recipient_restrictions"},
        "",
        {"check-overridden", "undefined-parameter"},
    ),
    "postscreen in front": (
        {
            "smtp      inet  n       -       y       -       -       smtpd": "smtp inet n - y - 1 postscreen\n"
            "smtpd pass - - y - - smtpd\ndnsblog unix - - y - 0 dnsblog\ntlsproxy unix - - y - 0 tlsproxy"
        },
        "",
        set(),
    ),
    "a proxy before the queue, which gives back on loopback": (
        {
            "smtp      inet  n       -       y       -       -       smtpd": "smtp inet n - y - 20 smtpd\n"
            "  -o smtpd_proxy_filter=127.0.0.1:10024\n"
            "127.0.0.1:10025 inet n - y - - smtpd\n  -o smtpd_authorized_xforward_hosts=127.0.0.0/8\n"
            "  -o smtpd_client_restrictions=\n  -o smtpd_helo_restrictions=\n  -o smtpd_sender_restrictions=\n"
            "  -o smtpd_relay_restrictions=\n  -o smtpd_recipient_restrictions=permit_mynetworks,reject\n"
            "  -o smtpd_data_restrictions=\n  -o mynetworks=127.0.0.0/8"
        },
        "",
        set(),
    ),
    "milters of rspamd": ({}, "smtpd_milters = inet:localhost:11332\nmilter_default_action = accept", set()),
    "permit among the restrictions of clients": ({}, "smtpd_client_restrictions = permit_mynetworks, permit", set()),
    "addresses that are not looked for": ({}, "smtpd_reject_unlisted_recipient = no", set()),
    "rows of postalias that are no aliases": (
        {
            "mydestination = mx": "mydestination = example.com, mx",
            "virtual_mailbox_domains = example.com": "virtual_mailbox_domains =",
            "alias_maps =": "alias_maps = inline:{ YP_LAST_MODIFIED=1795684477, YP_MASTER_NAME=mx }",
        },
        "",
        set(),
    ),
    "a copy of all mail": ({}, "always_bcc = archive@example.com", set()),
    "an action for all policy services": (
        {"        { default_action = 451 4.3.5 policy service unavailable },\n": ""},
        "smtpd_policy_service_default_action = DUNNO",
        {"default-action-permits"},
    ),
    "another name completes plain ones": ({"myorigin = example.com": "myorigin = $myhostname"}, "", {"origin-differs"}),
    "no extensions": ({"recipient_delimiter = +": "recipient_delimiter ="}, "", {"delimiter-differs"}),
    "everybody in mynetworks": (
        {"mynetworks = 127.0.0.0/8 [::1]/128 192.0.2.0/24": "mynetworks = 0.0.0.0/0"},
        "",
        {"networks-differ"},
    ),
    "a backup for another domain": ({}, "relay_domains = backup.example", {"domain-unmanaged"}),
    "a domain of aliases with a catch-all": (
        {},
        "virtual_alias_domains = old.example\nvirtual_alias_maps = inline:{{@old.example=bob@example.com}}",
        {"domain-unmanaged"},
    ),
    "an alias to a plain name": (
        {},
        "virtual_alias_maps = inline:{{alice@example.com=bob}}",
        {"alias-around"},
    ),
    "a list by a condition": (
        {RELAY_END: "${mynetworks?{reject_unauth_destination}:{permit}}\nsmtpd_recipient"},
        "",
        set(),
    ),
    "domains in a table that nobody can read": (
        {"virtual_mailbox_domains = example.com": "virtual_mailbox_domains = hash:/nowhere/domains"},
        "",
        set(),
    ),
    "delivery by lmtp": ({}, "virtual_transport = lmtp:unix:private/dovecot-lmtp", set()),
}
SAMPLE = {"postscreen in front", "an alias to a plain name"}  # the others take as long


@pytest.mark.postfix
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.full) for name in VARIANTS]
)
def test_variant_is_judged(make_site: MakeSite, name: str) -> None:
    """Each is what some host has; who is told of what is none, or not told of what is, trusts doctor no more."""
    replaced, added, expected = VARIANTS[name]
    site = make_site("good-mx-guide")
    texts = {file: (site.config / file).read_text() for file in ("main.cf", "master.cf")}
    assert all(any(old in text for text in texts.values()) for old in replaced)
    for file, text in texts.items():
        for old, new in replaced.items():
            text = text.replace(old, new)
        (site.config / file).write_text(f"{text}\n{added}\n" if file == "main.cf" else text)
    found = site.doctor("--no-probe")
    assert codes(found) == expected, [each["finding"] for each in found["findings"]]
