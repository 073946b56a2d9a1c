"""Stands between a command and the server, and cuts the connection at a word of the command's."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager


class Cutter:
    """Passes everything on to *port* until *word* comes; whether that still *arrives*, and others may come after."""

    def __init__(self, port: int, word: bytes, *, arrives: bool, stays: bool) -> None:
        self._to = port
        self._word = word
        self._arrives = arrives
        self._stays = stays
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.has_cut = False

    def run(self) -> None:
        """One connection after the other, until the socket is closed."""
        while True:
            try:
                ours, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(ours,), daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self, ours: socket.socket) -> None:
        if self.has_cut and not self._stays:
            ours.close()
            return
        with closing(ours), closing(socket.create_connection(("127.0.0.1", self._to))) as theirs:
            selector = selectors.DefaultSelector()
            selector.register(ours, selectors.EVENT_READ, theirs)
            selector.register(theirs, selectors.EVENT_READ, ours)
            while True:
                for key, _ in selector.select():
                    source, target = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    data = source.recv(65536)
                    if source is ours and self._word in data and not self.has_cut:
                        self.has_cut = True
                        if self._arrives:
                            theirs.sendall(data)
                            theirs.recv(1)  # it has answered
                        return
                    if not data:
                        return
                    target.sendall(data)


@contextmanager
def cutting(port: int, word: bytes, *, arrives: bool, stays: bool = True) -> Iterator[Cutter]:
    """A `Cutter` that runs."""
    cutter = Cutter(port, word, arrives=arrives, stays=stays)
    threading.Thread(target=cutter.run, daemon=True).start()
    yield cutter
    cutter.close()
