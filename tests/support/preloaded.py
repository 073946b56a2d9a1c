"""policyd as a process that need not load itself: forked off one that has, which costs a tenth of the processor time.

It is a child of whoever asked for it, with the same standard files, descriptors, folder and environment as if it had
been started, and runs `policyd.__main__` from its first line. What a start itself does, from the interpreter's options
to the modules that are loaded, is tested with processes that are started. Its end leaves out to take the modules to
pieces, which were eight ninths of what `policyd --version` costs: each page of memory would be copied for it.

`python -m tests.support.preloaded NUMBER` is the process to fork off: it is asked over the socket with that descriptor.
"""

import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import termios
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.waiting import LIMIT_SECONDS

PROGRAM = [sys.executable, "-m", "policyd"]
STRICT = [sys.executable, "-W", "error", "-m", "policyd"]
_REQUEST_BYTES = 1 << 17
_MOST_DESCRIPTORS = 32
_PR_SET_CHILD_SUBREAPER = 36
_PYTHON = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
_BESIDES = ("sqlalchemy.dialects.sqlite", "twisted.internet.epollreactor", "twisted.internet.unix", "psycopg")


class _Forked(subprocess.Popen[Any]):
    """policyd as `subprocess.Popen` has processes."""

    def _execute_child(  # what starts the process, in the standard library
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, restore_signals, gid, gids, uid, umask,
        start_new_session, process_group,
    ) -> None:  # fmt: skip
        files = [0 if p2cread == -1 else p2cread, 1 if c2pwrite == -1 else c2pwrite, 2 if errwrite == -1 else errwrite]
        is_strict = args[: len(STRICT)] == STRICT
        words = args[len(STRICT if is_strict else PROGRAM) :]
        is_activated = "LISTEN_PID" in (env or os.environ)
        numbers = [0, 1, 2, *(range(3, 3 + len(pass_fds)) if is_activated else pass_fds)]
        place = [os.fspath(cwd or Path.cwd()), dict(env or os.environ), start_new_session]
        self.pid = _process().fork([*files, *pass_fds], [words, numbers, is_strict, *place])
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]


def start(command: Sequence[str | Path], **options: Any) -> "subprocess.Popen[Any]":
    """Start *command*, as `subprocess.Popen` does with *options*.

    It is forked where it begins with `PROGRAM` or `STRICT`, and the environment has Python as it is here. With
    LISTEN_PID in its environment, it has the descriptors as systemd passes them (`activated`).
    """
    words = [os.fspath(each) for each in command]
    is_policyd = words[: len(PROGRAM)] == PROGRAM or words[: len(STRICT)] == STRICT
    python = {name: value for name, value in (options.get("env") or {}).items() if name.startswith("PYTHON")}
    return (_Forked if is_policyd and python in ({}, _PYTHON) else subprocess.Popen)(words, **options)


def run(command: Sequence[str | Path], *, given: Any = None, **options: Any) -> "subprocess.CompletedProcess[Any]":
    """How *command* ends that is *given* this on stdin, and what it writes."""
    pipe = subprocess.PIPE
    options = {"stdin": subprocess.DEVNULL if given is None else pipe, "stdout": pipe, "stderr": pipe} | options
    with start(command, **options) as process:
        out, err = process.communicate(given, timeout=LIMIT_SECONDS)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


class _Process:
    """The process to fork off."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._turn = threading.Lock()
        atexit.register(self._end)

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()

    def fork(self, files: Sequence[int], request: list[Any]) -> int:
        """The process id of a new child of this process."""
        with self._turn, _adopting():
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            return int(self._socket.recv(_REQUEST_BYTES))


@cache
def _process() -> _Process:
    return _Process()


@contextmanager
def _adopting() -> Iterator[None]:
    """The children of a child that ends are this process's meanwhile."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@cache
def load() -> None:
    """Load all of policyd but what runs when it is loaded."""
    import policyd

    for module in pkgutil.walk_packages(policyd.__path__, "policyd."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:
            importlib.import_module(module.name)
    for name in _BESIDES:
        importlib.import_module(name)


def _serve(asked: socket.socket) -> list[str]:
    """Fork as often as it is asked; the words for the new process, in which alone this returns."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(asked, _REQUEST_BYTES, _MOST_DESCRIPTORS)
        if not request:
            sys.exit()
        words, numbers, is_strict, *place = json.loads(request)

        # Fork twice: whoever asked adopts the second one, when the first is gone.
        between, pid = os.pipe(), os.fork()
        if pid == 0:
            if second := os.fork():
                os.write(between[1], str(second).encode())
                os._exit(0)
            asked.detach()
            _have(descriptors, numbers)
            _be_at(*place)
            if is_strict:
                warnings.simplefilter("error")
            return [*words]
        os.waitpid(pid, 0)
        asked.send(os.read(between[0], 64))
        for each in (*between, *descriptors):
            os.close(each)


def _have(descriptors: list[int], numbers: list[int]) -> None:
    """Have *descriptors* under these *numbers*, and no others."""
    high = [os.dup2(each, 100 + place) for place, each in enumerate(descriptors)]
    for descriptor, number in zip(high, numbers, strict=True):
        os.dup2(descriptor, number)
    kept = sorted({0, 1, 2, *numbers})
    for lower, upper in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(lower + 1, upper)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)


def _be_at(folder: str, environment: dict[str, str], leads_session: bool) -> None:
    """Be in this folder, with this environment; who leads a session has the terminal that is its stdin."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "LISTEN_PID" in environment:
        os.environ["LISTEN_PID"] = str(os.getpid())
    if leads_session:
        os.setsid()
        if os.isatty(0):
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell's `&` has the tests ignore it


def _run_policyd() -> int:
    """Run it as `python -m policyd` would; its exit status."""
    try:
        runpy.run_module("policyd", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        return end.code or 0
    return 0


def _end(status: int) -> None:
    """End the process as the interpreter does, but for taking the modules to pieces."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for the threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    gc.collect()  # what nobody has closed is warned of
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    load()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        sys.argv[1:] = _serve(asked)
    _end(_run_policyd())
