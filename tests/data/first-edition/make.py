"""Makes the files beside it, with the code of the first edition (commit 30bfaab), installed where this is run.

Type in a checkout of that commit: .venv/bin/python …/tests/data/first-edition/make.py. The database is written as SQL
text; the answers are those that `policyd check` gave, and the exports are as `policyd export` made them.
"""

import itertools
import json
import shlex
import sqlite3
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

from click.testing import CliRunner

from policyd.cli import main

HERE = Path(__file__).resolve().parent
SETTINGS = 'recipient_delimiter = "+"\ninsider_networks = ["192.0.2.0/24"]\n[audit]\nsyslog = "none"\n'
LONG = "x" * 250
IMPORTED = f"""\
name,addresses,receive,reason,comment,accept
imported,imported@example.com i@example.org,insiders,"Grüße, ""alle"" hier",a note,@partner.example
"comma, semi; and 'quotes'",cs@example.com,nobody,,,
{LONG},long@example.com,,,,
"""
COMMANDS = """
domain add example.com
domain add example.org --unlisted accept
domain add bücher.example
domain add [198.51.100.7]
domain add gone.example
mailbox add alice alice@example.com al@example.com alice@example.org
mailbox add Bob bob@example.com bob@gone.example
mailbox add 'Jane Doe' '"jane doe"@example.com' --comment 'two   blanks'
mailbox add 'Straße' straße@example.com
mailbox add 日本 日本@bücher.example
mailbox add group:sales sales@example.com
mailbox add group-sales sales@example.org
mailbox add group-sales-2
mailbox add 'Group:All Staff' staff@example.com
mailbox add group: colon@example.com
mailbox add group:{LONG} verylong@example.com
mailbox add group-{LONG}
mailbox add 'no address'
mailbox add literal 'joe@[198.51.100.7]'
mailbox add boss boss@example.com b.boss@example.com
mailbox add ceo ceo@example.com
mailbox add quoted '"a@b"@example.com' '"x=y"@example.com'
mailbox restrict boss --receive nobody --accept @partner.example --accept vip@customer.example --reason "Bitte ans Büro"
mailbox restrict ceo --accept '<>' --accept @.example.net --accept news@ --until 2100-01-01
mailbox restrict 'Straße' --receive insiders --reason 'ended long ago' --until {SOON}
mailbox restrict group:sales --receive nobody --accept @partner.example
mailbox restrict alice --receive insiders
mailbox lift alice
mailbox unaccept ceo news@
mailbox add temporary temporary@example.com
mailbox restrict temporary --receive nobody
mailbox remove temporary --yes
mailbox add 'the number again' again@example.com
mailbox rename ceo 'Chief, Executive'
mailbox add ceo second.ceo@example.com
address add Bob robert@example.com
address remove bob@example.com
domain remove gone.example --yes
sender block alice
sender block 'Jane Doe' --to anyone --reason 'left the company' --except @partner.example --except team@example.com
sender block @evil.example
sender block spam@ --to boss --comment 'asked by the boss'
sender block @.example.net --except postmaster@example.com
sender block Bob --to 'Chief, Executive' --until 2100-01-01
sender block quoted --to outside --until {SOON}
sender block group:sales --to 'Group:All Staff'
sender block '<>' --to literal
sender block '"jane doe"@example.com' --to anyone
sender block later@example.net
sender except @evil.example good@example.com
sender unblock later@example.net
import {IMPORTED}
mailbox add mistake mistake@example.com
undo {LAST}
domain set example.org --unlisted reject
domain set example.org --unlisted accept
"""
RECIPIENTS = """
alice@example.com al@example.com ALICE+x@example.com alice@example.org bob@example.com robert@example.com
"jane doe"@example.com straße@example.com strasse@example.com 日本@bücher.example 日本@xn--bcher-kva.example
sales@example.com sales@example.org staff@example.com colon@example.com verylong@example.com joe@[198.51.100.7]
boss@example.com b.boss+tag@example.com ceo@example.com second.ceo@example.com "a@b"@example.com again@example.com
temporary@example.com imported@example.com i@example.org cs@example.com long@example.com nobody@example.com
nobody@example.org postmaster@example.com bob@gone.example someone@outside.example good@example.com team@example.com
IMCEAEX-_O=X_OU=Y_CN=RECIPIENTS_CN=BOSS@example.com IMCEASMTP-boss+40example+2Ecom@example.com
"""
SENDERS = (  # envelope sender, login, client
    ("joe@example.net", "", "203.0.113.9"),
    ("joe@sub.example.net", "", "203.0.113.9"),
    ("", "", "203.0.113.9"),
    ("joe@partner.example", "", "203.0.113.9"),
    ("vip@customer.example", "", "203.0.113.9"),
    ("mallory@evil.example", "", "203.0.113.9"),
    ("spam@anywhere.example", "", "203.0.113.9"),
    ("news@anywhere.example", "", "203.0.113.9"),
    ("joe@example.net", "", "192.0.2.1"),
    ("alice@example.com", "alice@example.com", "203.0.113.9"),
    ("al@example.com", "al@example.com", "203.0.113.9"),
    ("other@example.net", "alice@example.com", "203.0.113.9"),
    ("robert@example.com", "robert@example.com", "203.0.113.9"),
    ("jane doe@example.com", "jane doe@example.com", "203.0.113.9"),
    ("a@b@example.com", "a@b@example.com", "203.0.113.9"),
    ("sales@example.com", "sales@example.com", "203.0.113.9"),
    ("boss@example.com", "boss@example.com", "203.0.113.9"),
)


def run(folder: Path, *words: str, stdin: str | None = None, may_refuse: bool = False) -> str:
    """What a command prints."""
    common = ["--config", str(folder / "policyd.toml"), "--database", str(folder / "policyd.db")]
    ended = CliRunner().invoke(main, [*common, *words], input=stdin)
    if ended.exit_code and not (may_refuse and ended.exit_code == 1):
        sys.exit(f"{words}: {ended.exit_code}: {ended.stderr} {ended.exception}")
    return ended.stdout


def fill(folder: Path) -> None:
    """Make the database."""
    (folder / "imported.csv").write_text(IMPORTED)
    for line in filter(None, COMMANDS.splitlines()):
        soon = datetime.now().astimezone() + timedelta(seconds=3)
        values = {"{LONG}": LONG, "{IMPORTED}": str(folder / "imported.csv"), "{SOON}": soon.isoformat()}
        words = shlex.split(line)
        for name, value in values.items():
            words = [word.replace(name, value) for word in words]
        if "{LAST}" in words:
            words[-1] = str(json.loads(run(folder, "--json", "history", "--limit", "1"))[-1]["changeset"])
        run(folder, *words)
    time.sleep(5)  # until what ends soon has ended


def dump(folder: Path) -> str:
    """The database as SQL text."""
    connection = sqlite3.connect(folder / "policyd.db")
    pragmas = [(name, *connection.execute(f"PRAGMA {name}").fetchone()) for name in ("application_id", "user_version")]
    lines = [*(f"PRAGMA {name} = {value};" for name, value in pragmas), *connection.iterdump()]
    connection.close()
    return "\n".join(lines) + "\n"


def answers(folder: Path) -> str:
    """The answer to each question, a JSON object a line."""
    lines = []
    for recipient, (sender, login, client) in itertools.product(shlex.split(RECIPIENTS.replace('"', "'\"'")), SENDERS):
        local, _, domain = recipient.rpartition("@")
        sent = f"{local[1:-1] if local.startswith(chr(34)) else local}@{domain}"
        raw = f"request=smtpd_access_policy\nprotocol_state=RCPT\nsender={sender}\nrecipient={sent}\n"
        raw += f"sasl_username={login}\nclient_address={client}\n\n"
        told = json.loads(run(folder, "--json", "check", "-", stdin=raw, may_refuse=True))
        asked = {"recipient": sent, "sender": sender, "sasl_username": login, "client_address": client}
        kept = {name: told[name] for name in ("action", "text", "rule", "entry", "mailbox")}
        lines.append(json.dumps({**asked, **kept}, ensure_ascii=False))
    return "\n".join(lines) + "\n"


def undoable(folder: Path) -> list[int]:
    """The changesets that could be undone, each by itself."""
    changes = json.loads(run(folder, "--json", "history", "--limit", "1000"))
    numbers = sorted({change["changeset"] for change in changes})
    return [number for number in numbers if run(folder, "--json", "undo", str(number), "--dry-run", may_refuse=True)]


def make() -> None:
    """Write the files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "policyd.toml").write_text(SETTINGS)
        fill(folder)
        run(folder, "database", "check")
        (HERE / "database.sql").write_text(dump(folder))
        (HERE / "answers.jsonl").write_text(answers(folder))
        (HERE / "undoable.json").write_text(f"{undoable(folder)}\n")
        (HERE / "history.json").write_text(run(folder, "--json", "history", "--limit", "1000"))
        for format_ in ("jsonl", "csv", "list", "postfix"):
            (HERE / f"export.{format_}").write_text(run(folder, "export", "--format", format_))


if __name__ == "__main__":
    make()
