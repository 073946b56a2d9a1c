"""`policyd completion`: has bash, zsh and fish complete what is typed, and answers what they then ask.

Each script calls this command again, with what was typed. Names come from anybody whose file was imported: each shell
gets them as plain text, and quotes them itself, but for bash, which can't; for it they are quoted here.
"""

import re

import click

from policyd.cli.command import Command
from policyd.cli.completing import Offer, offer

_BASH = r"""# bash asks policyd what can be typed next.
_policyd() {
    local kind
    # $2 is what bash will replace: all of the word, or what is behind the last @, : or = in it.
    {
        read -r kind
        mapfile -t COMPREPLY
    } < <(command policyd completion bash -- "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
    case $kind in
    file) compopt -o default ;;
    folder) compopt -o dirnames ;;
    esac
}
complete -F _policyd policyd
"""
_ZSH = r"""#compdef policyd
# zsh asks policyd what can be typed next.
_policyd() {
    local kind line
    local -a lines values shown
    lines=("${(@f)$(command policyd completion zsh -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    kind=$lines[1]
    shift lines
    case $kind in
    file) _files ;;
    folder) _files -/ ;;
    names)
        for line in $lines; do
            values+=("${line%%$'\t'*}")
            shown+=("${line/$'\t'/  }")
        done
        compadd -U -l -d shown -a values
        ;;
    esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _policyd "$@" # this is a file of the folders in fpath, read at the first TAB
else
    compdef _policyd policyd
fi
"""
_FISH = r"""# fish asks policyd what can be typed next.
function __policyd_complete
    set -l words (commandline -opc)
    set -e words[1]
    set -l typed (commandline -ct)
    set -l lines (command policyd completion fish -- $words (string unescape -- "$typed"; or echo "$typed") 2>/dev/null)
    set -l kind $lines[1]
    set -e lines[1]
    switch "$kind"
        case file
            __fish_complete_path "$typed"
        case folder
            __fish_complete_directories "$typed"
        case names
            printf '%s\n' $lines
    end
end
complete -c policyd -f -a '(__policyd_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

# A piece of a command line in bash; a quote may still be open.
_PIECE = re.compile(
    r"""
    (?P<blank>[ \t\n]+)
    | '(?P<single>[^']*)(?P<single_end>'?)
    | "(?P<double>(?:[^"\\]|\\.)*)\\?(?P<double_end>"?)
    | \\(?P<escaped>.?)
    | (?P<plain>[^ \t\n'"\\]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED_IN_DOUBLE = re.compile(r'\\(["\\$`])')
_SAID_BY_BASH = re.compile(r"[<>|&;()$`]")  # a redirection, another command, or what is known only when it runs
_HARMLESS = re.compile(r"[\w@%+=:,./-]")


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice([*_SCRIPTS]))
@click.argument("typed", metavar="[WORD]...", nargs=-1)
@click.pass_context
def command(ctx: click.Context, shell: str, typed: tuple[str, ...]) -> None:
    """Print what has a shell complete commands, options, and the names of mailboxes, groups, addresses and domains.

    The WORDs are what the shell then asks with.

    \b
    Example: policyd completion fish
    """
    main = ctx.find_root().command
    if not typed:
        click.echo(_SCRIPTS[shell], nl=False)
    elif shell == "bash":
        _print_lines(*_for_bash(main, typed[0], typed[-1]))
    else:
        found = offer(main, typed[:-1], typed[-1])
        _print_lines(found, [f"{value}\t{_in_short(told)}" if told else value for value, told in found.items])


def _print_lines(found: Offer, lines: list[str]) -> None:
    """Print what kind of thing can be typed, and then each, as a line."""
    kind = "file" if found.is_file else "folder" if found.is_folder else "names"
    click.echo("\n".join([kind, *lines]))


def _in_short(told: str) -> str:
    """The first sentence of a help text."""
    return told.partition(". ")[0].partition("  [")[0].removesuffix(".")


def _for_bash(main: click.Command, line: str, replaced: str) -> tuple[Offer, list[str]]:
    """What can be typed at the end of *line*, and what bash is to put for each in the place of *replaced*, its end."""
    # What the words are, and how the part of the last one that stays was typed.
    words, _ = _read_words(line)
    kept, quote = _read_words(line.removesuffix(replaced))
    if words is None or kept is None or len(words) != len(kept) or not line.endswith(replaced):
        return Offer(is_file=True), []

    # A value that goes on in another way than what stays can't be put there.
    found = offer(main, words[1:-1], words[-1])
    ends = [value.removeprefix(kept[-1]) for value, _ in found.items if value.startswith(kept[-1])]
    return found, [end for each in ends if (end := _in_bash(each, quote)) is not None]


def _read_words(line: str) -> tuple[list[str] | None, str]:
    """The words of *line*, the last one as far as it is typed, and the quote that is open in it.

    None where the words are not all there: something in them is only known when the line runs.
    Source: bash(1), QUOTING.
    """
    words, quote = [""], ""
    for piece in _PIECE.finditer(line):
        quote = ""
        match piece.lastgroup:
            case "blank":
                words.append("")
            case "single_end":
                words[-1] += piece["single"]
                quote = "" if piece["single_end"] else "'"
            case "double_end":
                if re.search(r"[$`]", _ESCAPED_IN_DOUBLE.sub("", piece["double"])):
                    return None, ""
                words[-1] += _ESCAPED_IN_DOUBLE.sub(r"\1", piece["double"])
                quote = "" if piece["double_end"] else '"'
            case "escaped":
                words[-1] += piece["escaped"]
            case _:
                if _SAID_BY_BASH.search(piece["plain"]):
                    return None, ""
                words[-1] += piece["plain"]
    return words, quote


def _in_bash(text: str, quote: str) -> str | None:
    """*text* so that bash takes it for itself, where *quote* is open; None where that can't be typed."""
    match quote:
        case "'":
            return text.replace("'", r"'\''")
        case '"':
            return None if "!" in text else re.sub(r'(["\\$`])', r"\\\1", text)
        case _:
            return "".join(each if _HARMLESS.match(each) else f"\\{each}" for each in text)
