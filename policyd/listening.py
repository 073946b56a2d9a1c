"""Sockets to listen on: a stale file is cleared away, and what is in the way is named in one line."""

import os
import socket
import stat

from policyd.endpoint import Endpoint
from policyd.errors import ListenError


def open_listener(endpoint: Endpoint) -> socket.socket:
    """A socket that listens on *endpoint*, and does not block. Raises ListenError."""
    family = socket.AF_UNIX if endpoint.path else socket.AF_INET6 if ":" in endpoint.interface else socket.AF_INET
    listener = socket.socket(family)
    try:
        if endpoint.path:
            clear_stale_socket(endpoint.path)
            listener.bind(endpoint.path)
            os.chmod(endpoint.path, endpoint.mode)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((endpoint.interface, endpoint.port))
        listener.listen(endpoint.backlog)
    except OSError as error:
        listener.close()
        raise listen_error(endpoint, error) from error
    except ListenError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def listen_error(endpoint: Endpoint, error: BaseException) -> ListenError:
    """The one line about *error*, which is the operating system's, or Twisted's around that."""
    cause = getattr(error, "socketError", error)
    reason = getattr(cause, "strerror", None) or str(cause)
    return ListenError(f"can't listen on {endpoint.text}: {reason}; see the setting listen")


def clear_stale_socket(path: str) -> None:
    """Remove the socket file that a daemon which no longer runs has left. Raises ListenError if one runs."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ListenError(f"can't listen on {path}: there is a file by that name that is no socket; remove it")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
        return
    except BlockingIOError:
        pass  # its backlog is full: it is alive
    raise ListenError(f"can't listen on {path}: a server is listening there already; stop it first")
