"""`policyd report`: prints what a while of the log says, the likely mistakes first."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from policyd.address import NULL_SENDER, quote_local_part
from policyd.cli.command import Command, invocation
from policyd.cli.terminal import echo, echo_json
from policyd.cli.types import SINCE, FilePath, Number
from policyd.errors import RefusedError
from policyd.model import Rule
from policyd.printable import count_of
from policyd.timestamps import show_local

_SHOWN = 10  # of each kind, for a person
_REPORTED = 1000


@click.command("report", cls=Command)
@click.argument("logs", metavar="[LOG|-]...", nargs=-1, type=FilePath(allow_dash=True, exists=True, dir_okay=False))
@click.option("--since", metavar="WHEN", type=SINCE, default=0, help="Only lines since then: a date, -7d, -12h.")
@click.option(
    "--limit",
    metavar="N",
    type=Number(1, 2**31),
    help=f"Only the first N of each list; without it, {_SHOWN}, or {_REPORTED} with --json.",
)
def command(logs: tuple[Path, ...], since: int, limit: int | None) -> None:
    """Say what policyd refused, or would have refused, the likely mistakes first; and what lets each through.

    A LOG may be compressed, and of any form that syslog or journalctl writes; the files that it was rotated to are read
    with it. Without one it is the mail log of this host, or its journal.

    \b
    Example: policyd report /var/log/mail.log --since -7d
    """
    from policyd.report.summary import make_report

    call = invocation()
    report = make_report(
        logs, since, call.session, call.settings, call.now, limit or (_REPORTED if call.json else _SHOWN)
    )
    if call.json:
        echo_json(report, indent=1)
    else:
        for line in _lines(report):
            echo(line)
    if not report["lines_of_policyd"]:
        names = ", ".join(report["logs"])
        raise RefusedError(
            f"{names}: no line of policyd in {count_of(report['lines'], 'line')}; name the log that has them, or type:"
            " journalctl -t policyd -o json | policyd report -"
        )


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for a person: sections with a heading each, of which an empty one is left out."""
    yield from _period(report)
    for heading, lines in (
        (_of_refused(report), _refused(report)),
        ("Unlisted addresses", _unlisted(report)),
        ("Clients that guess addresses", _guessing(report)),
        ("Insiders by their network alone", _by_network(report)),
        ("Blocked senders that tried", _blocked(report)),
        ("Blocked senders that never matched", _terms(report, "never_matched")),
        ("Ended", _terms(report, "ended")),
        ("Ending within a week", _terms(report, "ending")),
        ("Changes in this time", _changes(report)),
        ("The daemon", _daemon(report)),
    ):
        some = [*lines]
        if some:
            yield ""
            yield heading
            yield from (f"  {line}" for line in some)


def _period(report: Mapping[str, Any]) -> Iterator[str]:
    """What was read, and what came of it."""
    if report["first"]:
        yield f"From {show_local(report['first'])} to {show_local(report['last'])}"
    lines = count_of(report["lines"], "line")
    yield f"Read: {', '.join(report['logs'])}: {lines}, {report['lines_of_policyd']} of policyd"
    for problem in report["problems"]:
        yield f"Problem: {problem}"
    if report["not_understood"]:
        yield f"Not understood: {count_of(report['not_understood'], 'line')} of policyd"
    if report["lost"]:
        yield f"Missing: {count_of(report['lost'], 'line')}, which syslog did not take"
    yield f"Questions: {report['questions']}"
    if report["asked_twice"]:
        yield f"Asked twice: {report['asked_twice']} more; the check stands in two of Postfix's lists"
    if report["trials"]:
        yield f"Not counted: {count_of(report['trials'], 'trial')} of doctor, setup and check"
    for rule, answers in report["rules"].items():
        told = [f"{count} {name.replace('_', ' ')}" for name, count in answers.items() if count]
        if told:
            yield f"  {rule}: {', '.join(told)}"
    for each in report["contexts"]:
        told = [f"{each[name]} {words}" for name, words in _INSIDERS.items() if each[name]]
        yield f"  context {each['context'] or 'none'}: {each['questions']}{': ' if told else ''}{', '.join(told)}"


_INSIDERS = {"by_login": "with a login", "by_network": "insiders by network", "outsiders": "from outside"}


def _of_refused(report: Mapping[str, Any]) -> str:
    is_monitor = any(each["would_be_refused"] for each in report["rules"].values())
    return (
        "What would be refused, the likely mistakes first"
        if is_monitor
        else "What was refused, the likely mistakes first"
    )


def _refused(report: Mapping[str, Any]) -> Iterator[str]:
    for each in report["refused"]:
        to = each["mailbox"] or _address(each["recipient"])
        because = f"entry {each['entry']}" if each["rule"] == Rule.BLOCKED_SENDER else f"by {each['by'] or 'domain'}"
        login = f", login {each['login']}" if each["login"] else ""
        yield f"{_address(each['sender'])}{login} to {to}: {_times(each)}, {each['rule']}, {because}"
        if each["likely_wrong"]:
            yield f"  likely a mistake: {', and '.join(each['likely_wrong'])}"
        yield from _ways(each)
    yield from _rest(report, "refused")


def _unlisted(report: Mapping[str, Any]) -> Iterator[str]:
    for each in report["unlisted"]:
        near = f"; the nearest is {_address(each['nearest'])}" if each["nearest"] else ""
        yield f"{_address(each['recipient'])}: {_times(each)}{near}"
        yield from _ways(each)
    yield from _rest(report, "unlisted")


def _ways(each: Mapping[str, Any]) -> Iterator[str]:
    """How it is answered now, and what lets it through."""
    if each["text"]:
        yield f"  text: {each['text']}"
    if each["now"] == "DUNNO":
        yield "  by now it is let through"
    elif each["command"]:
        yield f"  {each['remark'] or 'to let it through'}: {each['command']}"
    elif each["remark"]:
        yield f"  {each['remark']}"
    if each["asked"]:
        yield f"  asked: {each['asked']}"


def _rest(report: Mapping[str, Any], name: str) -> Iterator[str]:
    if report[f"{name}_more"]:
        yield f"and {report[f'{name}_more']} more; --limit shows more of them"
    if report[f"{name}_others"]:
        yield f"and {report[f'{name}_others']} questions of which each was too rare to be kept"


def _guessing(report: Mapping[str, Any]) -> Iterator[str]:
    for each in report["guessing"]:
        yield f"{each['client']}: {_times(each)}"


def _by_network(report: Mapping[str, Any]) -> Iterator[str]:
    for each in report["insiders_by_network"]:
        yield f"{each['client']}: {count_of(each['count'], 'question')}, the last from {_address(each['last_sender'])}"


def _blocked(report: Mapping[str, Any]) -> Iterator[str]:
    for each in report.get("blocked_senders", ()):
        who = f"{each['sender']} to {each['to']}" if each["sender"] else "removed since"
        yield f"entry {each['entry']}: {who}: {_times(each)}"


def _terms(report: Mapping[str, Any], name: str) -> Iterator[str]:
    for each in report.get(name, ()):
        number = f"entry {each['entry']}: " if each["entry"] else ""
        until = f", until {show_local(each['until'])}" if each["until"] else ""
        yield f"{number}{each['what']}{until}"
    if report.get(f"{name}_more"):
        yield f"and {report[f'{name}_more']} more; --limit shows more of them"


def _changes(report: Mapping[str, Any]) -> Iterator[str]:
    for each in report.get("changes", ()):
        more = f" and {each['changes'] - 1} more" if each["changes"] > 1 else ""
        when = show_local(each["at"])
        yield f"{when} {each['actor']}: {each['operation']} {each['object']}{more} (changeset {each['changeset']})"
    if report.get("changes_more"):
        yield f"and {report['changes_more']} more; see: policyd history"


def _daemon(report: Mapping[str, Any]) -> Iterator[str]:
    told = [count_of(report[name], name[:-1]) for name in ("starts", "stops", "reloads") if report[name]]
    if told:
        yield ", ".join(told)
    for each in report["warnings"]:
        yield f"warning: {each['warning']}: {_times(each)}"
    silent = report["hours_without_questions"]
    longest = sorted(silent, key=lambda each: each["from"] - each["to"])[:_SHOWN]
    for each in sorted(longest, key=lambda each: each["from"]):
        yield f"asked nothing from {show_local(each['from'])} to {show_local(each['to'])}"


def _times(each: Mapping[str, Any]) -> str:
    """How often, and when."""
    often = "once" if each["count"] == 1 else f"{each['count']} times"
    if not each["first"]:
        return often
    if each["count"] == 1:
        return f"{often}, {show_local(each['first'])}"
    return f"{often}, from {show_local(each['first'])} to {show_local(each['last'])}"


def _address(text: str) -> str:
    return quote_local_part(text) if text else NULL_SENDER
