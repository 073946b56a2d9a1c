"""A stand-in for Dovecot, which checks Postfix's passwords: every password is right.

Source: Dovecot authentication protocol 1.1, the part that Postfix speaks (AUTH PLAIN).
"""

import base64
import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GREETING = b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t%s\nDONE\n" % (b"0" * 32)


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(GREETING)
        for line in self.rfile:
            command, *fields = line.rstrip(b"\n").split(b"\t")
            if command == b"AUTH":
                response = next(field[5:] for field in fields if field.startswith(b"resp="))
                user = base64.b64decode(response).split(b"\0")[1]
                self.wfile.write(b"OK\t%s\tuser=%s\n" % (fields[0], user))


@contextmanager
def authentication(path: Path) -> Iterator[None]:
    """Check passwords at the unix socket *path* while the block runs."""
    with socketserver.ThreadingUnixStreamServer(str(path), _Conversation) as server:
        server.daemon_threads = True
        os.chmod(path, 0o666)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join(10)
