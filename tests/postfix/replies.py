"""What Postfix answers a client for policyd: the one place in these tests that knows the default texts."""

ACCEPTED = "250 2.1.5 Ok"
TEXTS = {
    "blocked-sender": "5.7.1 {}This sender may not write to this recipient",
    "restricted-recipient": "5.7.1 {}This mailbox does not take mail from this sender",
    "unlisted-recipient": "5.1.1 {}This address does not receive mail",
}
UNAVAILABLE = "451 4.3.5 {}policy service unavailable"  # default_action in contrib/postfix


def refused(rule: str, recipient: str, reason: str = "") -> str:
    """The reply to a RCPT of *recipient*, spelt as the client wrote it, that *rule* refused."""
    text = TEXTS[rule].format(f"<{recipient}>: Recipient address rejected: ")
    return f"554 {text}: {reason}" if reason else f"554 {text}"


def unavailable(recipient: str) -> str:
    """The reply to a RCPT of *recipient* while policyd can't be asked."""
    return UNAVAILABLE.format(f"<{recipient}>: Recipient address rejected: ")
