"""Shells on a terminal, at which somebody types: what a command line is made of, once TAB was pressed."""

import os
import pty
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.required import give_up
from tests.support.terminal import Terminal
from tests.support.waiting import LIMIT_SECONDS, until

_PROMPT = "ready> "
_BASH = r"""
PS1='{prompt}'; PS2=; HISTFILE=; set +o history
record() {{ printf '%s\0' "$@" > "$OUT.new"; mv "$OUT.new" "$OUT"; }}
{before}
eval "$(policyd completion bash)"
"""
_ZSH = r"""
PROMPT='{prompt}'; PS2=; unsetopt PROMPT_SP; bindkey -e
record() {{ printf '%s\0' "$@" > "$OUT.new"; mv "$OUT.new" "$OUT"; }}
autoload -Uz compinit; compinit -u -d "$OUT.dump"
eval "$(policyd completion zsh)"
"""
_FISH = r"""
function fish_prompt; echo -n '{prompt}'; end
function record; printf '%s\0' $argv > $OUT.new; mv $OUT.new $OUT; end
policyd completion fish | source
"""
_WITH_PACKAGE = ". /usr/share/bash-completion/bash_completion"


@dataclass(frozen=True)
class Shell:
    """A shell: how it is started with a file that it reads first, that file, and what must be there besides it."""

    command: tuple[str, ...]
    script: str
    before: str = ""
    needs: str = ""


SHELLS = {
    "bash": Shell(("bash", "--noprofile", "--rcfile", "{file}", "-i"), _BASH),
    "bash with bash-completion": Shell(
        ("bash", "--noprofile", "--rcfile", "{file}", "-i"), _BASH, _WITH_PACKAGE, _WITH_PACKAGE.partition(" ")[2]
    ),
    "zsh": Shell(("zsh", "-f", "-i"), _ZSH),
    "fish": Shell(("fish", "--private", "--no-config", "--init-command", "source {file}"), _FISH),
}


def typed_in(name: str, folder: Path, environment: Mapping[str, str], *lines: str) -> list[list[str]]:
    """The words that each of *lines* is, typed in the shell called *name*: a `\\t` in it completes what is before.

    The shell's files are in *folder*. A shell that isn't installed gives the test up.
    """
    shell = SHELLS[name]
    if shutil.which(shell.command[0]) is None or not os.path.exists(shell.needs or "/"):
        give_up("SHELLS", f"{name} is not installed")
    file, out = folder / "first", folder / "out"
    file.write_text(shell.script.format(prompt=_PROMPT, before=shell.before))
    ours, theirs = pty.openpty()
    wanted = {**os.environ, **environment, "OUT": str(out), "HOME": str(folder), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    command = ["setsid", "--ctty", *(word.format(file=file) for word in shell.command)]  # fish wants it to be its own
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=wanted, cwd=folder, text=True
    ) as process:
        os.close(theirs)
        terminal = Terminal(ours, process)
        try:
            if name == "zsh":  # which has no option for it
                terminal.type(f". {file}\r")
            return [_words_of(terminal, line, out) for line in lines]
        finally:
            process.kill()
            os.close(ours)


def _words_of(terminal: Terminal, line: str, out: Path) -> list[str]:
    """Type *line*, go to its beginning, and have the shell record it instead of running it."""
    terminal.read_until(_PROMPT)
    terminal.shown = ""
    terminal.type(f"{line}\x01record \r")
    until(out.exists, f"the words of {line!r}, after: {terminal.shown[-1000:]!r}", LIMIT_SECONDS)
    words = out.read_text().split("\0")[:-1]
    out.unlink()
    return words
