"""Writes into the pages what the program says of itself: commands, settings, what doctor may find, metrics and alerts.

It stands in the pages as text, between `.. from click: NAME`, `.. from settings`, `codes`, `metrics` or `alerts`, and
`.. end`, so that a reader without Sphinx has it, too. Run it as `.venv/bin/python docs/generate.py` where one of them
has changed. A test runs it with --check, which changes nothing and ends with 1 where a page is not what the
program says. The manual pages (docs/manual/) are made of the same texts.
"""

import difflib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

HERE = Path(__file__).absolute().parent
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from policyd.cli import main  # noqa: E402 - of this checkout, whatever is installed
from policyd.counters import CounterPage  # noqa: E402 - the same
from policyd.doctor.diagnosis import CODES  # noqa: E402 - the same
from policyd.settings import SETTINGS  # noqa: E402 - the same
from policyd.web.metrics import families  # noqa: E402 - the same
from policyd.web.observed import Seen  # noqa: E402 - the same

_PAGES = tuple(HERE / f"{name}.rst" for name in ("commands", "settings", "troubleshooting", "monitoring"))
_ALERTS = Path(__file__).resolve().parents[1] / "contrib" / "prometheus" / "policyd.rules.yml"
MARKED = re.compile(r"^\.\. from (.+)\n(?:.*\n)*?\.\. end\n", re.MULTILINE)
_WIDTH = 90  # of a synopsis


def generate(page: str) -> str:
    """*page* with what stands between its marks written again."""
    return MARKED.sub(lambda mark: "\n".join([f".. from {mark[1]}", "", *written(mark[1]), ".. end", ""]), page)


def written(source: str) -> Iterator[str]:
    if source == "settings":
        yield from _settings()
    elif source == "codes":
        for code, (severity, effect) in CODES.items():
            yield from _definition(f"``{code}`` ({severity})", effect)
    elif source == "metrics":
        yield from _metrics()
    elif source == "alerts":
        yield from _alerts()
    else:
        yield from explain(source.removeprefix("click: "))


def _settings() -> Iterator[str]:
    """A definition list of all settings; the texts of replies are one."""
    for key, setting in SETTINGS.items():
        if key.startswith("reply."):
            continue
        default = "below" if key == "listen" else f"``{_in_toml(setting.default)}``"
        yield from _definition(f"``{key}``", f"{setting.about}. {setting.kind.allowed}. Default: {default}.")
    replies = {key: setting for key, setting in SETTINGS.items() if key.startswith("reply.")}
    allowed = next(iter(replies.values())).kind.allowed
    term = ", ".join(f"``{key}``" for key in replies)
    yield from _definition(term, f"what the sender reads. {allowed}. Default: the text in :doc:`rules`.")


def _metrics() -> Iterator[str]:
    """A definition list of all metrics: the name, the labels, and what it is."""
    for family in families(CounterPage(1), Seen()):
        values: dict[str, dict[str, None]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                values.setdefault(label, {})[value] = None
        values.pop("le", None)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        shown = f"{{{', '.join(values)}}}" if values else ""
        listed = "".join(
            f" ``{label}`` is {', '.join(f'``{each}``' for each in known if each)}{' or nothing' * ('' in known)}."
            for label, known in values.items()
            if label not in ("version", "context")
        )
        yield from _definition(f"``{name}{shown}`` ({family.type})", f"{family.documentation}.{listed}")


def _alerts() -> Iterator[str]:
    """A definition list of the alerts: what each says, and what to do."""
    for rule in re.split(r"^      - alert: ", _ALERTS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name, _, behind = rule.partition("\n")
        severity = re.search(r"severity: (\w+)", behind)
        _, _, annotations = behind.partition("summary: ")
        summary, _, described = annotations.partition("description:")
        what = re.sub(r" on {{ \$labels\.instance }}", "", " ".join(summary.split()))
        what = re.sub(r"{{ .*? }}", "…", what)
        to_do = " ".join(described.split()).removeprefix(">- ")
        yield from _definition(f"``{name}`` ({severity[1] if severity else ''})", f"{what}. {to_do}")


def _definition(term: str, told: str) -> Iterator[str]:
    sentences = re.sub(r"(?:^|(?<=\. ))[a-z]", lambda first: first[0].upper(), told)
    yield term
    yield from (f"    {line}" for line in textwrap.wrap(sentences, 110, break_on_hyphens=False))
    yield ""


def _in_toml(value: object) -> str:
    """*value* as it would be written in the settings file."""
    if value is None:
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str | Path):
        return f'"{value}"'
    if isinstance(value, tuple | frozenset):
        return f"[{', '.join(_in_toml(str(each)) for each in sorted(value, key=str))}]"
    raise TypeError(value)


def explain(name: str, *, with_synopsis: bool = True) -> Iterator[str]:
    """What the command *name*, or the `common options`, says of itself, as lines of reStructuredText."""
    if name == "common options":
        command, context = _leaf("serve")
        yield from _define(option for option in command.get_params(context) if not option.expose_value)
        return
    command, _ = _leaf(name)
    sentences, _, example = inspect.cleandoc(command.help or "").partition("\b\n")
    yield from _as_text(sentences).strip().splitlines()
    yield ""
    typed = synopsis(name)
    if with_synopsis:
        yield from ("::", "", *textwrap.indent(typed, "    ").splitlines(), "")
    yield from _define(_own(command))
    line = example.strip().removeprefix("Example: ")
    if line != typed:
        yield from ("Example::", "", f"    {line}", "")


def _leaf(name: str) -> tuple[click.Command, click.Context]:
    """The command *name*, as `mailbox add`."""
    command: click.Command = main
    context = click.Context(main, info_name="policyd", **main.context_settings)
    for word in name.split():
        assert isinstance(command, click.Group), name
        found = command.get_command(context, word)
        assert found is not None, name
        command, context = found, click.Context(found, info_name=word, parent=context)
    return command, context


def _own(command: click.Command) -> list[click.Parameter]:
    """What *command* takes besides the common options."""
    return [each for each in command.params if each.expose_value]


def synopsis(name: str, width: int = _WIDTH) -> str:
    """The command line of the command *name* with its options, folded between them."""
    command, context = _leaf(name)
    params = _own(command)
    words = [each.make_metavar(context) for each in params if isinstance(each, click.Argument)]
    words += [_option_word(each) for each in params if isinstance(each, click.Option)]
    indent = " " * (len(context.command_path) + 1)
    lines = [context.command_path]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append(indent.removesuffix(" "))
        lines[-1] += f" {word}"
    return "\n".join(lines)


def _option_word(option: click.Option) -> str:
    spelled = "|".join([option.opts[-1], *option.secondary_opts])
    written = spelled if option.is_flag else f"{spelled} {_value(option)}"
    return (written if option.required else f"[{written}]") + ("..." if option.multiple else "")


def _value(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(option.type.choices)
    return option.make_metavar(click.Context(click.Command("policyd")))


def _define(params: "Iterator[click.Parameter] | list[click.Parameter]") -> Iterator[str]:
    """A definition list of the options among *params*."""
    for option in params:
        if not isinstance(option, click.Option):
            continue
        value = "" if option.is_flag else f" {_value(option)}"
        yield ", ".join(f"``{each}{value}``" for each in [*option.opts, *option.secondary_opts])
        _, told = option.get_help_record(click.Context(click.Command("policyd"))) or ("", "")
        yield from (f"    {line}" for line in textwrap.wrap(_as_text(told), 100))
        yield ""


def _as_text(told: str) -> str:
    """*told* as reStructuredText: what click prints is no markup."""
    text = re.sub(r"`([^`]+)`", r"``\1``", told)
    return re.sub(r"(?<![`\w])\*", r"\*", re.sub(r"  \[(.+)\]$", r" [\1]", text))


def _run(*arguments: str) -> int:
    status = 0
    for page in _PAGES:
        old = page.read_text(encoding="utf-8")
        new = generate(old)
        if old == new:
            continue
        if arguments == ("--check",):
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "page", "program"))
            sys.stderr.write(f"{page} is not what the program says; type .venv/bin/python docs/generate.py\n")
            status = 1
        else:
            page.write_text(new, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(_run(*sys.argv[1:]))
