"""A reply of one line."""

from twisted.web.server import Request


def reply(request: Request, status: int, line: str) -> bytes:
    """The body that is *line*, for *request*, whose status and headers are set."""
    body = f"{line}\n".encode("utf-8", "backslashreplace")
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    request.setHeader(b"cache-control", b"no-store")
    request.setHeader(b"content-length", b"%d" % len(body))
    return body
