"""The examples in the pages do what they show: every command, file and line of output."""

import re
import socket
import sqlite3
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from docutils import nodes  # type: ignore[import-untyped]

from policyd import reply
from policyd.audit import AuditLog
from policyd.decide import Decider
from policyd.model import Request, Rule
from policyd.settings import AuditSettings, Settings, load_settings
from policyd.store.connection import Database
from policyd.store.lookup import Lookup
from tests.docs.pages import PAGES, ROOT, blocks, page, parse, section, steps
from tests.support.kept_lines import KeptLines

Run = Callable[[str], Result]

UNLISTED = "5.1.1 This address does not receive mail"
README_SESSION = "What it looks like"


def play(run: Run, shown: Iterator[tuple[str, str]]) -> list[str]:
    """Write each file and run each command, which prints what is shown under it; return their names and lines."""
    done = []
    for name, text in shown:
        done.append(name)
        if not name.startswith("policyd "):
            Path(name).write_text(text)
            continue
        line = name.removeprefix("policyd ").removesuffix(" | tail -1")
        result = run(f"{line} -v")
        output = result.output.strip("\n")
        if name.endswith(" | tail -1"):
            output = output.splitlines()[-1].replace("\t", "  ")  # as a reader's terminal shows it
        assert _without_circumstances(output) == _without_circumstances(text), name
        is_refused = re.search(r"^REJECT|can't be undone|would remove", text)
        assert result.exit_code == (65 if "rows are wrong" in text else 1 if is_refused else 0), name
    return done


def _without_circumstances(text: str) -> str:
    """*text* without when something happened, and who did it."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+\d\d:\d\d(  \S+)?", "WHEN", text)
    return re.sub(r"(WHEN(?: by)?) [^ ,]+: ", r"\1 WHO: ", text)


# The README and the guide


def bring_bob(run: Run) -> None:
    """The tables that the session in the README begins with."""
    for line in ("domain add example.com", "mailbox add bob bob@example.com"):
        assert run(line).exit_code == 0


def console_steps(parent: nodes.Element) -> list[tuple[str, str]]:
    """The policyd commands of the console blocks, each with the output shown under it."""
    return [step for step in steps(parent) if step[0].startswith("policyd ")]


def test_readme_session_does_what_it_shows(run: Run) -> None:
    """The first thing that anybody reads of policyd is true."""
    bring_bob(run)
    shown = console_steps(section(parse("README.rst"), README_SESSION))
    assert [line.split()[1] for line, _ in shown] == ["mailbox", "check", "history", "undo"]
    play(run, iter(shown))


def test_readme_recipes_work(run: Run, tmp_path: Path) -> None:
    """What one copies out of the README does something."""
    bring_bob(run)
    for name in ("alice", "carol", "dora"):
        assert run(f"mailbox add {name} {name}@example.com").exit_code == 0
    for name, text in steps(page("import/directories")):
        if name == "people.ldif":
            Path(name).write_text(text)
    (tmp_path / "backups").mkdir()
    recipes = console_steps(section(parse("README.rst"), "Everyday recipes"))
    assert len(recipes) == 7
    for line, shown in recipes:
        assert shown == ""
        told = run(line.removeprefix("policyd ").replace("/var", str(tmp_path)))
        assert (told.exit_code, line) == (0, line), told.output


def test_guide_does_what_it_shows(run: Run) -> None:
    """Whoever follows the guide sees, line by line, what it says."""
    assert len(play(run, iter(console_steps(page("guide"))))) > 8


def test_refusal_is_explained_as_it_is_shown(run: Run, tmp_path: Path) -> None:
    """Whoever has a complaint on the table does what the page does."""
    bring_bob(run)
    run('mailbox restrict bob --reason "internal mailbox"')
    with closing(sqlite3.connect(tmp_path / "policyd.db")) as database, database:
        database.execute("UPDATE change SET at = at - 86400")

    # The mail of the page comes in now, and later another one, to an address that is unlisted.
    (shown,) = [each for each in blocks(page("troubleshooting")) if "action=REJECT" in each]
    _, _, line = " ".join(shown.split()).partition(" ")
    other = (
        line.replace("<bob@", "<b.ob@")
        .replace("<carol@", "<dora@")
        .replace("0B1cJ2z9", "0C2dK3y8")
        .replace("restricted-recipient", "unlisted-recipient")
        .replace("5.7.1 This mailbox does not take mail from this sender: internal mailbox", UNLISTED)
        .replace("9c.0", "9c.1")
    )
    now = datetime.now(UTC)
    times = [now, now + timedelta(minutes=6)]
    logged = [f"{at.isoformat()} {each}\n" for at, each in zip(times, (line, other), strict=True)]
    Path("mail.log").write_text("".join(logged))
    steps_of_all = console_steps(page("troubleshooting"))
    of_the_mail = [step for step in steps_of_all if step[0] != "policyd doctor"]  # which is about this host's Postfix
    assert len(play(run, iter(of_the_mail))) == 3


FIRST_REFUSALS = {"README.rst": README_SESSION, "docs/guide.rst": "7. Restrict"}


@pytest.mark.parametrize("document", FIRST_REFUSALS)
def test_text_that_is_shown_is_the_one_that_policyd_sends(document: str) -> None:
    """The bounce is the one for the rule and the reason before it."""
    text = reply.render_text(
        Rule.RESTRICTED_RECIPIENT, reply.DEFAULT_TEXTS[Rule.RESTRICTED_RECIPIENT], reason="internal mailbox"
    )
    status, _, rest = text.partition(" ")
    shown = [" ".join(each.split()) for each in blocks(section(parse(document), FIRST_REFUSALS[document]))]
    assert any(f"554 {status} <bob@example.com>: Recipient address rejected: {rest}" in each for each in shown)


@pytest.mark.parametrize("document", FIRST_REFUSALS)
def test_log_line_that_is_shown_is_the_one_that_policyd_writes(document: str, run: Run, tmp_path: Path) -> None:
    """Whoever writes a filter for the log begins with this line."""
    bring_bob(run)
    run('mailbox restrict bob --reason "internal mailbox"')
    shown = [each for each in blocks(section(parse(document), FIRST_REFUSALS[document])) if "action=REJECT" in each]
    (line,) = (" ".join(each.split()).removeprefix("policyd[4242]: ") for each in shown)
    fields = dict(re.findall(r'(\w+)=("[^"]*"|[^,]*)', line))
    name, _, address = fields["client"].rstrip("]").partition("[")
    request = Request(
        protocol_state=fields["state"],
        instance=fields["instance"],
        client_name=name,
        client_address=address,
        sender=fields["sender"].strip("<>"),
        recipient=fields["recipient"].strip("<>"),
        policy_context=fields["context"],
    )
    lookup, sink = Lookup(Database.at(tmp_path / "policyd.db")), KeptLines()
    decision = Decider(Settings(), lookup).decide(request, int(time.time()))
    lookup.close()
    AuditLog(AuditSettings(), sink).decided(request, decision, float(fields["ms"]))
    assert sink.lines == [line]


def toml_blocks() -> list[str]:
    """The settings files that the pages show."""
    return [
        block.astext()
        for each in PAGES
        for block in parse(each).findall(nodes.literal_block)
        if "toml" in block["classes"]
    ]


def test_settings_shown_are_taken(tmp_path: Path) -> None:
    """A settings file out of the pages starts the daemon."""
    file = tmp_path / "policyd.toml"
    for text in toml_blocks():
        file.write_text(text)
        assert load_settings(file) != Settings(), text


@pytest.mark.parametrize(
    ("document", "files"), [("README.rst", ["main.cf"]), ("docs/guide.rst", ["main.cf", "master.cf"])]
)
def test_postfix_lines_are_those_of_contrib(document: str, files: list[str]) -> None:
    """The lines in contrib/postfix are tested with a real Postfix; those in the pages are the same."""
    shown = [each for each in blocks(parse(document)) if "check_policy_service" in each]
    assert len(shown) == len(files)
    for block, file in zip(shown, files, strict=True):
        kept = [*_without_comments((ROOT / "contrib/postfix" / file).read_text())]
        wanted = [*_without_comments(block)]
        windows = [kept[start : start + len(wanted)] for start in range(len(kept) - len(wanted) + 1)]
        assert wanted in [textwrap.dedent("\n".join(window)).splitlines() for window in windows], file


def _without_comments(text: str) -> Iterator[str]:
    return (line.rstrip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


# Bulk files


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("import", {"staff.csv", "all.csv"}),
        ("import/directories", {"people.ldif", "openldap.ldif"}),
        ("import/spreadsheets", {"people.csv", "changes.jsonl"}),
        ("import/windows", {"people.csv", "staff.csv"}),
        ("import/postfix", {"sender_access", "virtual"}),
        ("import/lists", {"known.txt", "leavers.txt"}),
        ("exchange", {"exchange.csv", "restrict.csv"}),
    ],
)
def test_bulk_files_do_what_is_shown(name: str, files: set[str], run: Run) -> None:
    """A postmaster tries these examples before the real thing; each page begins with empty tables."""
    assert files < {*play(run, steps(page(name)))}


def test_moved_out_is_moved_in_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages promise that jsonl and csv carry everything."""
    for name in ("import/directories", "import/spreadsheets", "import/lists"):
        for shown, text in steps(page(name)):
            if shown.startswith("policyd "):
                run(shown.removeprefix("policyd "))
            else:
                Path(shown).write_text(text)
    exported = run("export --format csv").stdout
    for line in ["export -o all.jsonl", "export --format csv -o tables.csv"]:
        assert run(line).exit_code == 0
    for number, file in enumerate(["all.jsonl", "tables.csv"]):
        monkeypatch.setenv("POLICYD_DATABASE", str(tmp_path / f"other{number}.db"))
        assert run(f"import {file}").exit_code == 0
        assert run("export --format csv").stdout == exported


def test_a_bulk_change_is_logged_as_it_is_shown(run: Run, tmp_path: Path) -> None:
    """A million lines would drown the mail log: an import is one."""
    (tmp_path / "policyd.toml").write_text(f'[audit]\nsyslog = "unix:{tmp_path}/log"\n')
    name, text = next(steps(page("exchange")))
    Path(name).write_text(text)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind("log")
        run(f"import {name} --add-domains")
        syslog.settimeout(0)
        logged = syslog.recv(8192).decode()
        with pytest.raises(BlockingIOError):
            syslog.recv(8192)
    (shown,) = [block for block in blocks(page("audit")) if "database.import" in block]
    assert re.sub("actor=[^,]+", "actor=root", logged).endswith(f": {shown}")
