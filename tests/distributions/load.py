"""Strangers who write to one mailbox again and again, until stdin ends; what each was told is counted on stdout.

It runs on the machine that is tried, with its own Python: `python3 load.py SERVER OWN-ADDRESS RECIPIENT`.
"""

import json
import smtplib
import sys
import threading
import time
from collections import Counter

_STRANGERS = 4
_RECIPIENTS = 5  # of one connection: Postfix slows down whoever makes more mistakes
_PAUSE_SECONDS = 0.2  # the upgrade shall have processors, too


def ask(server: str, own: str, recipient: str, told: list[tuple[str, float]], is_over: threading.Event) -> None:
    """Write to *recipient* until *is_over*, and append the reply and how many seconds it took."""
    while not is_over.is_set():
        try:
            with smtplib.SMTP(server, 25, source_address=(own, 0), timeout=120) as session:
                session.ehlo("far.example")
                for _ in range(_RECIPIENTS):
                    session.mail("carol@far.example")
                    begun = time.monotonic()
                    code, _text = session.rcpt(recipient)
                    told.append((str(code), time.monotonic() - begun))
                    session.rset()
                    is_over.wait(_PAUSE_SECONDS)
        except (OSError, smtplib.SMTPException) as error:
            told.append((f"{type(error).__name__}: {error}", 0.0))
            is_over.wait(_PAUSE_SECONDS)


def main() -> None:
    """Have all of them write."""
    told: list[tuple[str, float]] = []
    is_over = threading.Event()
    strangers = [threading.Thread(target=ask, args=(*sys.argv[1:4], told, is_over)) for _ in range(_STRANGERS)]
    for each in strangers:
        each.start()
    sys.stdin.read()
    is_over.set()
    for each in strangers:
        each.join()
    longest = {reply: round(max(took for said, took in told if said == reply), 1) for reply, _ in told}
    json.dump({"replies": Counter(reply for reply, _ in told), "longest": longest}, sys.stdout)


if __name__ == "__main__":
    main()
