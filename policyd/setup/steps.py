"""The steps of a setup, of its end, and of taking it back, each told as the commands that a person would have typed."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from policyd.admin.session import open_session
from policyd.doctor.examination import Examination
from policyd.doctor.postconf import read_instance
from policyd.doctor.sockets import diagnose_sockets
from policyd.endpoint import default_listen
from policyd.errors import PostfixError, SetupError
from policyd.model import Mode
from policyd.printable import count_of
from policyd.settings import DEFAULT_FILE, Settings
from policyd.setup import host
from policyd.setup.plan import Plan
from policyd.setup.record import Record, begin, read_record, records
from policyd.setup.swap import FILES, change_postfix, copy_of, reload_postfix
from policyd.setup.tables import fill
from policyd.setup.wanted import enforcing, read_file, with_lines


class WaitingError(SetupError):
    """Somebody must start the daemon before Postfix may ask it; the message says how."""


def apply(plan: Plan, actor: str, now: int) -> Iterator[str]:
    """Do what *plan* says, by *actor* at *now*, in Unix seconds; each line says what was done.

    Postfix's files are the last that is touched, and only once the daemon answers. Raises SetupError, and WaitingError
    where nobody can start the daemon from here.
    """
    need_root()
    with _alone(plan.settings_file):
        record = begin(plan.settings_file, plan.instance.folder, is_default=plan.examined.is_default)

        # What the daemon needs: a user, folders, settings, tables. Nobody asks it yet.
        yield from host.prepare(plan.settings, plan.instance)
        if plan.wanted.added:
            text = read_file(plan.settings_file)
            record.replace(plan.settings_file, with_lines(text, plan.wanted.added).encode())
            yield from (f"# {plan.settings_file}: {line}" for line in plan.wanted.added)
        yield from _tables(plan, actor, now)

        # Then the daemon, and at last Postfix.
        if host.has_systemd():
            yield from host.start_daemon(plan.instance, is_changed=bool(plan.wanted.added))
        if plan.commands:
            _need_daemon(plan)
            yield from change_postfix(plan, record)
        elif record.entries:  # one that was interrupted has perhaps not come to this
            reload_postfix(plan.examined)
        record.is_finished = True
        record.write()
        yield f"# to take it back: policyd setup --undo {record.folder}"


def _tables(plan: Plan, actor: str, now: int) -> Iterator[str]:
    if plan.listed.is_empty:
        return
    changeset, wrong = fill(open_session(plan.settings), plan.listed, actor, now)
    yield from (f"policyd domain add {line}" for line in domain_lines(plan))
    counts = [count_of(len(plan.listed.mailboxes), "mailbox", "mailboxes")]
    counts.append(f"{count_of(len(plan.listed.aliases), 'further address', 'further addresses')}")
    yield f"# {', '.join(counts)}; to take them back: policyd undo {changeset}"
    if wrong:
        yield f"# {count_of(wrong, 'address', 'addresses')} could not be taken: in no domain that Postfix names"


def domain_lines(plan: Plan) -> Iterator[str]:
    """How a person would add each domain."""
    for name, target in sorted(plan.listed.domains.items(), key=lambda each: bool(each[1])):
        yield f"{name} --alias-of {target}" if target else f"{name} --unlisted accept"


def _need_daemon(plan: Plan) -> None:
    """Raises WaitingError where nobody answers, and SetupError where Postfix's user may not ask."""
    if not host.is_answering(plan.settings):
        raise WaitingError(
            "Postfix is as it was, since nobody answers it yet; start the daemon, and type this again: "
            f"{host.start_line(plan.settings_file)}"
        )
    asking = Examination(plan.instance, plan.settings, plan.settings.listen or default_listen())
    if wrong := [each for each in diagnose_sockets(asking) if each.weight == "error"]:
        raise SetupError(f"Postfix is as it was: {'; '.join(each.sentence for each in wrong)}")


def enforce(settings: Settings, settings_file: Path | None) -> Iterator[str]:
    """Have refusals spoken from now on; each line says what was done. Raises SetupError."""
    need_root()
    if settings.mode is Mode.ENFORCE:
        return
    file = settings_file or DEFAULT_FILE
    with _alone(file):
        text = enforcing(read_file(file), file)
        record = next((each for each in records(file) if not each.is_undone), None)
        if record is None or file in record.changed():
            raise SetupError(f'{file}: not as policyd setup has left it; write mode = "enforce" there by hand')
        record.replace(file, text.encode())
    yield f'# {file}: mode = "enforce"'
    if host.has_systemd():
        yield host.reload_daemon()
    else:
        yield "# have the daemon read it: kill -HUP, with its process id"


def undo(settings_file: Path | None, postfix: Path | None, folder: Path | None) -> Iterator[str]:
    """Put back what the setup recorded in *folder*, or the last one of *postfix*, has replaced; each line says what.

    The tables stay. Raises SetupError where one of Postfix's was changed since; then nothing was done.
    """
    need_root()
    file = settings_file or DEFAULT_FILE
    with _alone(file):
        record = read_record(folder) if folder else _last(file, postfix)
        if record.is_undone:
            raise SetupError(f"{record.folder}: that has been taken back")

        # Postfix first: from then on nobody asks.
        own = Path(record.postfix)
        done = record.restore([own / name for name in FILES])
        shutil.rmtree(copy_of(own), ignore_errors=True)
        yield from (f"# {each}: as it was" for each in done)
        yield from _reload(own, is_default=record.is_default)

        # Of the rest, what somebody has edited meanwhile is theirs.
        changed = record.changed()
        yield from (f"# {each}: changed since, and left so; as it was, it is in {record.folder}" for each in changed)
        rest = {Path(entry.path) for entry in record.entries} - {*changed}
        yield from (f"# {each}: as it was" for each in record.restore(rest))
        record.is_undone = True
        record.write()
    yield "# the tables and the daemon stay; see: policyd history"


def _reload(folder: Path, *, is_default: bool) -> Iterator[str]:
    """Have Postfix read what was put back, also where a setup was killed before it could."""
    try:
        examined = Examination(read_instance(folder), Settings(), (), is_default=is_default)
        if reload_postfix(examined):
            yield "postfix reload" if is_default else f"postfix -c {folder} reload"
    except (SetupError, PostfixError) as error:
        yield f"# type: postfix reload ({error})"


def _last(file: Path, postfix: Path | None) -> Record:
    """The newest record beside *file* that is still to be taken back. Raises SetupError."""
    for record in records(file):
        if not record.is_undone and (postfix is None or record.postfix == str(postfix)):
            return record
    raise SetupError(f"{file.parent}: there is no setup to take back")


def need_root() -> None:
    """Raises SetupError for everybody but root."""
    if os.geteuid() != 0:
        raise SetupError("only root can do that")


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Let nobody else set up with the settings *file* meanwhile. Raises SetupError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SetupError(f"{file.parent}: another policyd setup is at work there") from error
        yield
    finally:
        os.close(descriptor)
