"""Configurations that nobody has seen: those that people have, with words lost, doubled and put elsewhere."""

import json
import random
import re
import shlex
from pathlib import Path

import pytest

from policyd.doctor.diagnosis import CODES
from policyd.doctor.examine import examine
from policyd.doctor.postconf import find_program, read_instances
from policyd.errors import PostfixError
from policyd.printable import to_json
from policyd.settings import load_settings
from tests.support.randomised import a_seed
from tests.support.required import give_up

from .sites import CONFIGURATIONS, NAMES

MUTANTS = 4
_WORDS = (
    *("$nowhere", "${nowhere?a:b}", "${compatibility_level?{permit}:{reject}}", "$$", "{", "}", '"', ",", "\\", "#"),
    *("warn_if_reject", "permit", "reject", "defer", "sleep", "sleep 1", "check_policy_service", "permit_mynetworks"),
    *("check_recipient_access", "inline:{a=b}", "inline:{{a@b=OK}}", "pcre:/nowhere", "hash:/nowhere", "proxy:x:y"),
    *(
        "unix:policyd/policyd.sock",
        "inet:127.0.0.1:1",
        "unix:",
        "inet::",
        "{ unix:x, { a = b }",
        "policyd_asked",
        "ä\udcff",
    ),
    *("!192.0.2.1", "[::1]", "/nowhere", "static:all", "0/0", "-o", "-o x=y", "=", "smtpd", "y", "-"),
)


def mutate(text: str, dice: random.Random) -> str:
    """*text* with a few of its words lost, doubled, put elsewhere, or replaced."""
    words = re.split(r"([ ,\n=]+)", text)
    for _ in range(dice.randint(1, 6)):
        at, other = dice.randrange(len(words)), dice.randrange(len(words))
        match dice.randrange(5):
            case 0:
                del words[at]
            case 1:
                words.insert(at, words[other])
            case 2:
                words[at] = dice.choice(_WORDS)
            case 3:
                words[at], words[other] = words[other], words[at]
            case _:
                words.insert(at, f" {dice.choice(_WORDS)} ")
    return "".join(words)


@pytest.mark.full
@pytest.mark.parametrize("number", range(20))
def test_no_configuration_is_too_strange(tmp_path: Path, number: int) -> None:
    """Whoever needs a doctor has a configuration that is not as it should be: a traceback is no answer."""
    if find_program("postconf") is None:
        give_up("POSTFIX", "not installed: postfix (Debian: apt-get install postfix)")
    dice = random.Random(a_seed() + number)
    for mutant in range(MUTANTS):
        folder = tmp_path / f"{number}-{mutant}"
        folder.mkdir()
        name = dice.choice(NAMES)
        for file in ("main.cf", "master.cf"):
            text = (CONFIGURATIONS / name / file).read_text()
            text = mutate(text, dice) if dice.random() < 0.8 else text
            (folder / file).write_text(text, errors="surrogateescape")
        (folder / "policyd.toml").write_text(f'database = "{folder}/policyd.db"\nlisten = ["unix:{folder}/s"]\n')
        try:
            report = examine(load_settings(folder / "policyd.toml"), folder, 0)
        except PostfixError:  # an answer, too
            continue
        for each in report.found:
            assert each.code in CODES
            assert each.about
            for line in each.commands:
                shlex.split(line)
        json.loads(to_json(report.as_object()))


def test_an_instance_that_is_gone_does_not_hide_the_others(tmp_path: Path) -> None:
    """Its name stays in main.cf for as long as nobody misses it, and mail comes in by the first one."""
    if find_program("postconf") is None:
        give_up("POSTFIX", "not installed: postfix (Debian: apt-get install postfix)")
    (tmp_path / "main.cf").write_text(f"multi_instance_directories = {tmp_path}/gone, {tmp_path}\n")
    (tmp_path / "master.cf").write_text("smtp inet n - n - - smtpd\n")
    unseen: list[str] = []
    assert [each.folder for each in read_instances(tmp_path, unseen)] == [tmp_path]
    assert [line.partition(":")[0] for line in unseen] == [f"{tmp_path}/gone of multi_instance_directories"]
