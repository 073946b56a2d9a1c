"""The first commands a newcomer types, ./run, ./test and docs/build, on machines that lack this or that.

The scripts are real and run as processes, in a copy of the checkout under a path with blanks and an
apostrophe. On their PATH stand only the programs a bare Debian has and stand-ins for those that would change
the machine: a Python whose `venv` and `pip` only pretend, an `apt-get` that notes what it was asked.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.required import need_program

CHECKOUT = Path(__file__).resolve().parent.parent
TOOLS = ("tools/environment.sh", "tools/release", "tools/release.py", "tools/distributions.py")
SCRIPTS = ("run", "test", "docs/build", "setup.py", "pyproject.toml", *TOOLS)
BARE_DEBIAN = ("sh", "cat", "cp", "dirname", "flock", "mkdir", "mv", "rm", "sed")
LIMIT_SECONDS = 180
PYTEST = "pytest -n auto --dist loadfile --no-loadscope-reorder"

# Writes one line a call to the log, and leaves to the real Python what isn't venv, pip or what .venv is for.
PYTHON = """\
#!/bin/sh
case "$1 $2" in
"-m venv")
    echo "venv" >>{log}
    mkdir -p "$3/bin"
    [ ! -e {machine}/venv-is-missing ] || exit 1
    cp "$0" "$3/bin/python" ;;
"-m pip")
    [ "$3" = install ] || exit 0
    for last; do :; done
    echo "pip $last" >>{log}
    if [ -p {machine}/pip-waits ]; then echo >{machine}/pip-started; read -r _ <{machine}/pip-waits; fi
    [ ! -e {machine}/no-network ] || {{ echo "ERROR: no route to host" >&2; exit 1; }} ;;
"-m policyd" | "-m pytest" | "-m sphinx")
    shift
    echo "$*" >>{log}
    [ ! -e {machine}/policyd-fails ] || {{ echo "it failed" >&2; exit 73; }}
    case "$*" in *domain\\ add*) : >"${{5#sqlite:///}}" ;; esac ;;
*)
    exec {python} "$@" ;;
esac
"""

OLD_PYTHON = """\
#!/bin/sh
exec {python} -c "import sys; sys.version_info = (3, 9, 2, 'final', 0)$2"
"""

APT_GET = """\
#!/bin/sh
echo "apt-get $*" >>{log}
case $1 in
install) [ -e {machine}/has-lists ] && rm -f {machine}/venv-is-missing ;;
update) : >{machine}/has-lists ;;
esac
"""


class Machine:
    """A checkout and the programs around it, by default all that ./test needs and the user root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.checkout = folder / "it's a checkout"
        for name in SCRIPTS:
            (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, self.checkout / name)
        for name in BARE_DEBIAN:
            if found := shutil.which(name):
                (self.programs / name).symlink_to(found)
        self.has_program("python3", PYTHON)
        self.has_program("apt-get", APT_GET)
        self.is_used_by(0)

    def has_program(self, name: str, text: str) -> None:
        words = {"log": self.folder / "log", "machine": self.folder, "python": sys.executable}
        program = self.programs / name
        program.write_text(text.format(**{key: shlex.quote(str(path)) for key, path in words.items()}))
        program.chmod(0o755)

    def is_used_by(self, uid: int) -> None:
        self.has_program("id", f"#!/bin/sh\necho {uid}\n")

    def lacks(self, what: str) -> None:
        (self.folder / what).touch()

    def log(self) -> list[str]:
        """Take the lines that the stand-ins wrote since the last time."""
        path = self.folder / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    @contextmanager
    def start(self, *command: str, cwd: Path | None = None, **environment: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            command,
            cwd=cwd or self.checkout,
            env={"PATH": str(self.programs), "HOME": str(self.folder), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def call(self, *command: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        with self.start(*command, cwd=cwd, **environment) as process:
            stdout, stderr = process.communicate(timeout=LIMIT_SECONDS)
            return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    folder = tmp_path / "a path with blanks"
    folder.mkdir()
    return Machine(folder)


MAKING = "Making the Python environment in .venv (once; from the network, about a minute) ...\n"
MADE_FOR_TESTS = ["venv", "pip .[test]"]
INSTALL = "apt-get install -y --no-install-recommends python3-venv"


def test_one_command_makes_the_environment_and_runs_the_tests(machine):
    """A newcomer has no environment, and is told why the first time takes longer."""
    done = machine.call("./test", "-k", "two words")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", MAKING)
    assert machine.log() == [*MADE_FOR_TESTS, f"{PYTEST} -k two words"]


def test_usable_environment_is_used_as_it_is(machine):
    """The second run must not wait for a network, nor say anything."""
    machine.call("./test")
    machine.log()
    machine.lacks("no-network")
    done = machine.call("./test")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.log() == [PYTEST]


@pytest.mark.parametrize("interpreter", ["sh", None], ids=["named to sh", "called by path"])
def test_works_from_any_folder(machine, interpreter):
    """The tests run in the checkout, wherever the user stands."""
    command = [interpreter, str(machine.checkout / "test")] if interpreter else [str(machine.checkout / "test")]
    assert machine.call(*command, cwd=machine.folder).returncode == 0
    assert (machine.checkout / ".venv").is_dir()


def test_relative_python_is_the_users_not_the_checkouts(machine):
    """PYTHON=./mine means what it says where it was typed."""
    (machine.programs / "python3").rename(machine.folder / "mine")
    done = machine.call(str(machine.checkout / "test"), cwd=machine.folder, PYTHON="./mine")
    assert (done.returncode, done.stderr) == (0, MAKING)


@pytest.mark.parametrize("changed", ["setup.py", "pyproject.toml"])
def test_environment_is_made_again_when_what_it_is_made_from_changes(machine, changed):
    """After a `git pull` with a new dependency, the old environment would fail in some obscure way."""
    machine.call("./test")
    machine.log()
    with (machine.checkout / changed).open("a") as file:
        file.write("# changed\n")
    machine.call("./test")
    assert machine.log() == [*MADE_FOR_TESTS, PYTEST]


def test_environment_is_made_again_in_a_copied_or_moved_checkout(machine):
    """Its programs hold the old path, and would run the other folder's code."""
    machine.call("./test")
    machine.log()
    machine.checkout = machine.checkout.rename(machine.folder / "moved")
    machine.call("./test")
    assert machine.log() == [*MADE_FOR_TESTS, PYTEST]


def test_half_made_environment_is_made_again(machine):
    """Ctrl-C while pip works must not leave something that half works."""
    machine.call("./test")
    machine.log()
    (machine.checkout / ".venv/policyd-stamp").unlink()
    (machine.checkout / ".venv/remains").touch()
    machine.call("./test")
    assert machine.log() == [*MADE_FOR_TESTS, PYTEST]
    assert not (machine.checkout / ".venv/remains").exists()


def test_plain_environment_is_not_enough_for_the_tests_but_stays_in_use(machine):
    """A daemon started with ./run may be running out of .venv: it isn't taken away, but added to."""
    machine.call("./run")
    machine.log()
    done = machine.call("./test")
    assert done.stderr == MAKING.replace("Making the", "Adding the test tools to the")
    assert machine.log() == ["pip .[test]", PYTEST]


def test_pages_are_built_with_tools_of_their_own(machine):
    """Whoever only runs policyd needs no Sphinx; whoever has tested keeps what that needs."""
    machine.call("./test")
    machine.log()
    done = machine.call("docs/build", "-D", "html_theme=basic")
    assert (done.returncode, done.stderr) == (0, MAKING.replace("Making the", "Adding the docs tools to the"))
    told = "The pages are in docs/_build/html/index.html, the manual pages in docs/_build/man.\n"
    assert done.stdout == told
    added, built, manual = machine.log()
    assert added == "pip .[docs]"
    assert built.startswith("sphinx --fail-on-warning --nitpicky ")
    assert built.endswith(" -D html_theme=basic docs docs/_build/html")
    assert manual.endswith(" -D html_theme=basic docs/manual docs/_build/man")
    for command in ("./test", "docs/build"):
        assert machine.call(command).stderr == ""


def test_a_warning_fails_the_build(machine):
    """A page with a dead link is not called built."""
    machine.lacks("policyd-fails")
    assert machine.call("docs/build").returncode != 0
    assert "The pages are in" not in machine.call("docs/build").stdout


def test_a_release_is_built_with_the_tools_of_the_list(machine):
    """Whoever builds it again must get the same bytes; what the list names comes after what is newest today."""
    done = machine.call("tools/release")
    said = "tools/release: the following arguments are required: TAG; see tools/release --help\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", MAKING + said)
    assert machine.log() == ["venv", "pip .[docs,build,release]", "pip requirements-build.txt"]


def test_environment_of_the_tests_is_enough_to_run(machine):
    """Whoever ran the tests first waits no second time."""
    machine.call("./test")
    machine.log()
    machine.call("./run")
    assert not {"venv", "pip .[web]"} & set(machine.log())


def test_python_without_venv_is_completed_by_root(machine):
    """Debian splits venv off, and a fresh image has no package lists: root sees neither."""
    machine.lacks("venv-is-missing")
    done = machine.call("./test")
    said = MAKING + "Python can't make an environment here: installing Debian's python3-venv ...\n"
    assert (done.returncode, done.stderr) == (0, said)
    assert machine.log() == ["venv", INSTALL, "apt-get update", INSTALL, *MADE_FOR_TESTS, PYTEST]


def test_user_is_told_what_root_must_type(machine):
    """Only root may install packages: one sentence, and nothing tried."""
    machine.is_used_by(1000)
    machine.lacks("venv-is-missing")
    done = machine.call("./test")
    assert (done.returncode, done.stderr) == (
        69,
        MAKING + "./test: python3 -m venv fails: type `apt-get install --no-install-recommends python3-venv`"
        " as root, and start ./test again\n",
    )
    assert machine.log() == ["venv"]


def test_system_without_apt_is_told_what_is_missing(machine):
    """Other systems name the package otherwise."""
    (machine.programs / "apt-get").unlink()
    machine.lacks("venv-is-missing")
    done = machine.call("./test")
    assert (done.returncode, done.stderr) == (
        69,
        MAKING + "./test: python3 -m venv fails: install the package of your system that has Python's venv"
        " and ensurepip, and start ./test again\n",
    )


def test_failing_apt_ends_with_the_command_to_type(machine):
    """No network on a bare machine: the reader learns which command to get to work."""
    machine.lacks("venv-is-missing")
    machine.has_program("apt-get", "#!/bin/sh\nexit 100\n")
    done = machine.call("./test")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        69,
        (
            "./test: python3 -m venv fails: type `apt-get install --no-install-recommends python3-venv`,"
            " fix what it reports, and start ./test again"
        ),
    )


def test_environment_that_pip_could_not_fill_is_made_again(machine):
    """A dead network says so, and the next run begins afresh instead of trusting the remains."""
    machine.lacks("no-network")
    done = machine.call("./test")
    assert (done.returncode, done.stderr) == (
        69,
        MAKING + "ERROR: no route to host\n"
        "./test: pip could not install what policyd needs (no network?): see its message above,"
        " and start ./test again\n",
    )
    (machine.folder / "no-network").unlink()
    assert machine.call("./test").returncode == 0
    assert machine.log() == [*MADE_FOR_TESTS, *MADE_FOR_TESTS, PYTEST]


def test_old_python_is_refused_before_anything_is_made(machine):
    """The traceback of a newer language's syntax would explain nothing."""
    machine.has_program("python3", OLD_PYTHON)
    done = machine.call("./test")
    assert (done.returncode, done.stderr) == (
        69,
        (
            "./test: python3 is Python 3.9, policyd needs 3.11 or newer:"
            " name one, as in PYTHON=/path/to/python3 ./test\n"
        ),
    )
    assert not (machine.checkout / ".venv").exists()


def test_missing_python_is_named(machine):
    """A mistyped PYTHON is found out by its own name."""
    done = machine.call("./test", PYTHON="python3.99")
    assert (done.returncode, done.stderr) == (
        69,
        (
            "./test: there is no python3.99 here: install Python 3.11 or newer,"
            " or name one, as in PYTHON=/path/to/python3 ./test\n"
        ),
    )


def test_two_at_once_make_one_environment(machine):
    """./test typed while ./run still makes the environment waits, and doesn't throw it away: by flock(1)."""
    need_program("flock", "util-linux")
    started, waits = machine.folder / "pip-started", machine.folder / "pip-waits"
    os.mkfifo(started)
    os.mkfifo(waits)
    with machine.start("./test") as first:
        started.read_text()
        with machine.start("./test") as second:
            assert second.stderr is not None
            assert second.stderr.readline().startswith("Waiting for another ./run or ./test ")
            waits.write_text("\n")
            assert second.wait(LIMIT_SECONDS) == first.wait(LIMIT_SECONDS) == 0
    assert machine.log() == [*MADE_FOR_TESTS, PYTEST, PYTEST]


def test_run_makes_an_example_once_and_serves(machine):
    """The first run has something to try; the next ones keep what the user made of it."""
    first = machine.call("./run", "--workers", "2")
    assert (first.returncode, first.stderr) == (0, MAKING + "Making the example domain in var/ ...\n")
    made = [line.partition(".db ")[2] for line in machine.log() if "--database" in line]
    assert [line.split()[:2] for line in made] == [
        ["domain", "add"],
        ["mailbox", "add"],
        ["mailbox", "add"],
        ["mailbox", "restrict"],
        ["sender", "block"],
    ]
    second = machine.call("./run", "--workers", "2")
    assert (second.returncode, second.stderr, second.stdout) == (0, "", first.stdout)
    assert machine.log() == [f"policyd --config {machine.checkout}/var/policyd.toml serve --workers 2"]


@pytest.mark.parametrize(("uid", "user"), [(0, {"user": "root"}), (1000, {})], ids=["root", "a user"])
def test_settings_of_run_survive_any_path_and_suit_who_runs_it(machine, uid, user):
    """TOML has its own ideas of quotes and backslashes; root's checkout may be closed to every other user."""
    machine.is_used_by(uid)
    machine.checkout = machine.checkout.rename(machine.folder / "a\\b \"c\" 'd' ü")
    machine.call("./run")
    settings = tomllib.loads((machine.checkout / "var/policyd.toml").read_text(encoding="utf-8"))
    assert settings == {
        "database": f"sqlite:///{machine.checkout}/var/policyd.db",
        "listen": ["tcp:10040:interface=127.0.0.1"],
        "audit": {"syslog": "stderr"},
        "http": {"listen": "tcp:10041:interface=127.0.0.1"},
        **user,
    }


def test_interrupted_first_run_is_done_again(machine):
    """An example of which half is missing would answer the printed commands wrongly."""
    machine.lacks("policyd-fails")
    failed = machine.call("./run")
    assert (failed.returncode, failed.stdout) == (73, "")
    assert failed.stderr.splitlines()[-2:] == [
        "it failed",
        "./run: can't make the example domain, the command that failed is: policyd domain add example.com",
    ]
    (machine.folder / "policyd-fails").unlink()
    machine.log()
    assert machine.call("./run").returncode == 0
    assert len(machine.log()) == 6
    assert sorted(path.name for path in (machine.checkout / "var").iterdir()) == [
        "policyd.db",
        "policyd.toml",
    ]


def test_lost_settings_of_run_do_not_cost_the_database(machine):
    """What the user entered is never replaced by the example."""
    machine.call("./run")
    (machine.checkout / "var/policyd.toml").unlink()
    (machine.checkout / "var/policyd.db").write_text("the user's")
    machine.call("./run")
    assert (machine.checkout / "var/policyd.db").read_text() == "the user's"


def test_printed_commands_can_be_typed_where_the_user_stands(machine):
    """A path with blanks and quotes is one word for the shell that it is pasted into."""
    script = str(machine.checkout / "run")
    printed = machine.call(script, cwd=machine.folder).stdout
    checks = [shlex.split(line) for line in printed.splitlines() if " check --sender " in line]
    start = [
        f"{machine.checkout}/.venv/bin/policyd",
        "--config",
        f"{machine.checkout}/var/policyd.toml",
        "check",
    ]
    assert [command[:4] for command in checks] == [start, start]
    assert "\n    .venv/bin/policyd --config var/policyd.toml check " in machine.call("./run").stdout


def test_printed_commands_avoid_the_start_script_that_pip_breaks(machine):
    """pip writes a quote in the path into a shell script as it is."""
    machine.checkout = machine.checkout.rename(machine.folder / 'a "quoted" path')
    printed = machine.call("./run").stdout
    assert "\n    .venv/bin/python -m policyd --config var/policyd.toml check " in printed


def test_path_that_no_database_url_can_hold_is_refused(machine):
    """The database would silently be made in another folder, under the path before the question mark."""
    machine.checkout = machine.checkout.rename(machine.folder / "really?")
    done = machine.call("./run")
    assert (done.returncode, done.stderr) == (
        69,
        "./run: a database URL ends at a question mark: move this folder to a path without one\n",
    )


def test_run_is_not_led_astray_by_the_settings_of_the_machine(machine):
    """POLICYD_DATABASE in the terminal names a production database, which no trial may touch."""
    machine.has_program("python3", PYTHON.replace('echo "$*"', 'echo "${{POLICYD_DATABASE-none}}"'))
    machine.call("./run", POLICYD_DATABASE="postgresql+psycopg://real")
    assert [line for line in machine.log() if line == "none" or "real" in line] == ["none"] * 6
