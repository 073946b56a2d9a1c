"""How long `policyd doctor` takes on a host with many mailboxes, as many aliases, and Postfix's maps of both.

Run it as `python benchmarks/doctor.py [MAILBOXES]...`, from a checkout whose environment has policyd, where Postfix is
installed; 10 000 and 1 000 000 by default. Each figure comes from this one run; CPU seconds, with those of Postfix's
programs, say more than those of a busy machine's clock.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

MAIN_CF = """compatibility_level = 3.6
myhostname = mx.example.com
myorigin = example.com
mydestination =
mynetworks = 127.0.0.0/8 [::1]/128
alias_maps =
recipient_delimiter = +
queue_directory = {folder}/queue
virtual_mailbox_domains = example.com
virtual_mailbox_maps = btree:{folder}/mailboxes
virtual_alias_maps = btree:{folder}/aliases
allow_percent_hack = no
swap_bangpath = no
resolve_dequoted_address = no
smtpd_recipient_restrictions = check_policy_service {{ unix:policyd/policyd.sock, timeout=5s,
    {{ default_action = 451 4.3.5 policy service unavailable }}, policy_context=inbound }},
    permit_mynetworks, reject_unauth_destination
"""
MASTER_CF = "smtp inet n - y - - smtpd\nsubmission inet n - y - - smtpd\n"
SETTINGS = """origin = "example.com"
listen = ["unix:{folder}/queue/policyd/policyd.sock"]
database = "{folder}/policyd.db"
[audit]
syslog = "none"
"""


def fill_tables(folder: Path, count: int) -> None:
    """Mailboxes with two addresses each, every hundredth of them restricted: an import takes far longer than doctor."""
    run(folder, "domain", "add", "example.com")
    mailboxes = (
        (number + 1, f"user{number}", f"user{number}", "inherit" if number % 100 else "insiders", "", None, "")
        for number in range(count)
    )
    addresses = [(f"user{number}@example.com", number + 1, 1) for number in range(count)]
    addresses += [(f"first.last{number}@example.com", number + 1, 0) for number in range(count)]
    with closing(sqlite3.connect(folder / "policyd.db")) as database, database:
        database.executemany("INSERT INTO mailbox VALUES (?, ?, ?, ?, ?, ?, ?)", mailboxes)
        database.executemany("INSERT INTO address VALUES (?, ?, ?)", sorted(addresses))


def write_maps(folder: Path, count: int) -> None:
    """Postfix's: each mailbox, and an alias to each. One alias in a thousand leads around a restriction."""
    rows = {
        "mailboxes": (f"user{number}@example.com user{number}/\n" for number in range(count)),
        "aliases": (
            f"first.last{number}@example.com user{number - (number % 1000 == 1)}@example.com\n"
            for number in range(count)
        ),
    }
    for name, lines in rows.items():
        with (folder / name).open("w") as file:
            file.writelines(lines)
        subprocess.run(["postmap", "-c", str(folder), f"btree:{folder / name}"], check=True)


def run(folder: Path, *words: str) -> str:
    """What `policyd` with these *words* took, in words."""
    started, before = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "policyd", "--config", str(folder / "policyd.toml"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    last = (done.stdout.splitlines() or [""])[-1]
    return f"{time.perf_counter() - started:.2f} s, {cpu:.2f} s of CPU time; {last}"


def main() -> None:
    """Measure each size."""
    for count in map(int, sys.argv[1:] or ("10000", "1000000")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "queue").mkdir()
            (folder / "main.cf").write_text(MAIN_CF.format(folder=folder))
            (folder / "master.cf").write_text(MASTER_CF)
            (folder / "policyd.toml").write_text(SETTINGS.format(folder=folder))
            write_maps(folder, count)
            fill_tables(folder, count)
            print(f"{count} mailboxes, doctor: {run(folder, 'doctor', '--postfix-config', str(folder))}", flush=True)


main()
