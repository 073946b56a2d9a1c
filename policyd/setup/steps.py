"""The steps of a setup, of its end, and of taking it back, each told as the commands that a person would have typed."""

import fcntl
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from policyd.admin.session import open_session
from policyd.doctor.examination import Examination
from policyd.doctor.placement import meant_for_us
from policyd.doctor.postconf import read_instance
from policyd.doctor.sockets import diagnose_sockets
from policyd.endpoint import default_listen
from policyd.errors import PostfixError, SetupError, reason_of
from policyd.model import Mode
from policyd.printable import count_of
from policyd.settings import DEFAULT_FILE, Settings, load_settings
from policyd.setup import host, systemd
from policyd.setup.plan import Plan, examine_for
from policyd.setup.record import FILES, Record, begin, read_record, records
from policyd.setup.swap import change_postfix, copy_of, reload_postfix
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
    host.make_settings_folder(plan.settings_file.parent)
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
        if systemd.has_systemd():
            yield from _start(plan, record)
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
        yield f"{quote(name)} --alias-of {quote(target)}" if target else f"{quote(name)} --unlisted accept"


def _start(plan: Plan, record: Record) -> Iterator[str]:
    """Have systemd run the daemon. Raises SetupError and OSError."""
    is_changed = bool(plan.wanted.added) or plan.is_interrupted  # it may have been interrupted right before
    try:
        yield from systemd.start_daemon(record, plan.instance, is_changed=is_changed)
    except SetupError as error:
        raise SetupError(f"Postfix is as it was: {error}") from error


def _need_daemon(plan: Plan) -> None:
    """Raises WaitingError where nobody answers, and SetupError where Postfix's user may not ask."""
    if not host.is_answering(plan.settings):
        if systemd.has_systemd():
            listen = ", ".join(each.text for each in plan.settings.listen or default_listen())
            raise SetupError(
                f"Postfix is as it was, since nobody answers on {listen}; see: systemctl status policyd.service; "
                "systemctl cat policyd.socket says where it listens"
            )
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
    file = settings_file or DEFAULT_FILE
    with _alone(file):
        record = next((each for each in records(file) if not each.is_undone), None)
        if settings.mode is not Mode.ENFORCE:
            text = enforcing(read_file(file), file)
            if record is None or file in record.changed():
                raise SetupError(f'{file}: not as policyd setup has left it; write mode = "enforce" there by hand')
            record.replace(file, text.encode())
            yield f'# {file}: mode = "enforce"'
        elif record is None:
            raise SetupError(f"{file}: there is no setup whose refusals are only logged; begin with: policyd setup")
    if systemd.has_systemd():  # also where one that was interrupted has not come to this
        yield systemd.reload_daemon()
    else:
        yield "# have the daemon read it: kill -HUP, with its process id"


def undo(settings_file: Path | None, postfix: Path | None, folder: Path | None) -> Iterator[str]:
    """Put back what the setup recorded in *folder*, or the last one of *postfix*, has replaced; each line says what.

    The tables stay. Raises SetupError where one of Postfix's was changed since, and still asks policyd; then nothing
    was done.
    """
    need_root()
    file = settings_file or DEFAULT_FILE
    with _alone(file):
        record = read_record(folder) if folder else _last(file, postfix)
        if record.is_undone:
            raise SetupError(f"{record.folder}: that has been taken back")

        # Postfix first: from then on nobody asks.
        own = Path(record.postfix)
        changed = record.changed()
        if theirs := [own / name for name in FILES if own / name in changed]:
            _need_unasked(record, theirs, file)
        done = record.restore([own / name for name in FILES if own / name not in changed])
        shutil.rmtree(copy_of(own), ignore_errors=True)
        yield from (f"# {each}: as it was" for each in done)
        is_read = yield from _reload(own, is_default=record.is_default)

        # Then the daemon, and the rest. What somebody has edited meanwhile is theirs.
        yield from _stop(record, file, is_asked=not is_read)
        changed = record.changed()
        yield from (f"# {each}: changed since, and left so; as it was, it is in {record.folder}" for each in changed)
        rest = {*record.paths()} - {*changed, *systemd.UNIT_FILES}
        yield from (f"# {each}: as it was" for each in record.restore(rest))
        record.is_undone = True
        record.write()
    yield "# the tables stay, and the user policyd with its folders; see: policyd history"


def _need_unasked(record: Record, changed: list[Path], file: Path) -> None:
    """Raises SetupError where Postfix's files, of which somebody has *changed* some since, still ask policyd.

    Raises PostfixError and SettingsError, too.
    """
    own = read_instance(Path(record.postfix))
    examined = examine_for(own, load_settings(file), file, is_default=record.is_default)
    if any(examined.asks(service) or meant_for_us(examined, service) for service in examined.instance.smtpd):
        raise SetupError(
            f"{', '.join(map(str, changed))}: changed since the setup, and so nothing was put back; take "
            "check_policy_service for policyd out there by hand, and type this again; as the files were before, they "
            f"are in {record.folder}"
        )


def _stop(record: Record, file: Path, *, is_asked: bool) -> Iterator[str]:
    """Take the daemon's units away, where *record* has put them in, nobody edited them, and no other setup stands.

    Not where Postfix has not read its files, *is_asked*: it would put all mail off.
    """
    units = {*systemd.UNIT_FILES} & {*record.paths()}
    is_needed = any(not each.is_undone and each.folder.name != record.folder.name for each in records(file))
    is_needed |= is_asked
    if units and systemd.has_systemd() and not is_needed and not units & {*record.changed()}:
        yield from systemd.take_away(record)
    else:
        yield "# the daemon stays as it is"


def _reload(folder: Path, *, is_default: bool) -> Generator[str, None, bool]:
    """Have Postfix read what was put back, also where a setup was killed before it could; whether it has."""
    try:
        examined = Examination(read_instance(folder), Settings(), (), is_default=is_default)
        if reload_postfix(examined):
            yield "postfix reload" if is_default else f"postfix -c {folder} reload"
    except (SetupError, PostfixError) as error:
        yield f"# type: postfix reload ({error})"
        return False
    return True


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
    try:
        descriptor = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SetupError(f"{file.parent}: {reason_of(error)}; there is no setup; begin with: policyd setup") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SetupError(f"{file.parent}: another policyd setup is at work there") from error
        yield
    finally:
        os.close(descriptor)
