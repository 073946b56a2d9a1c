"""What a page is before it is rendered, and what a form sends for it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from policyd.errors import RefusedError
from policyd.model import Request

OK, BAD_REQUEST, NOT_FOUND, UNAVAILABLE = 200, 400, 404, 503  # HTTP's

_TYPED = 2000  # characters of a field that a person fills in

Form = Mapping[str, str]


class Page(NamedTuple):
    """A page: the *template* that makes it of *values*, and its status in HTTP.

    *path* is its own path where another one was asked for that led there, else "".
    """

    template: str
    values: Mapping[str, Any]
    status: int = OK
    path: str = ""


class Reply(NamedTuple):
    """What is sent: a status, a media type, a body, and further headers."""

    status: int
    media_type: str
    body: bytes
    headers: Mapping[str, str] = {}


class Streamed(NamedTuple):
    """What is sent in *pieces*, for it may be large: each is made when the one before has been read."""

    media_type: str
    pieces: Iterator[bytes]
    headers: Mapping[str, str] = {}


def typed(form: Form, *names: str) -> dict[str, str]:
    """The fields of *form* of these names, without blanks around, and no longer than is shown; "" for one not sent."""
    return {name: form.get(name, "").strip()[:_TYPED] for name in names}


def field_of_request(request: Request) -> str:
    """*request* as a field of a form, in ASCII: a browser would change line breaks, and bytes that are not UTF-8."""
    return json.dumps({name: value for name, value in request._asdict().items() if value})


def request_in_field(text: str) -> Request:
    """The request that `field_of_request` has written. Raises RefusedError for anything else."""
    try:
        read = json.loads(text)
        request = Request(**read)
    except (ValueError, TypeError, RecursionError) as error:
        raise RefusedError("the request that was sent is none of this page's; ask again") from error
    if not all(isinstance(value, str) for value in request):
        raise RefusedError("the request that was sent is none of this page's; ask again")
    return request
