"""Who gets in: a request's facts in, out comes who it is, or why it is refused. Nothing here knows Twisted.

- Where there is a token, every request needs it: as `Authorization: Bearer`, or in the session that the login form
  begins. Where there is none, only who is on this machine gets in: over a unix socket or loopback.
- Over a unix socket, a reverse proxy may say in a header who its user is. From TCP that header is never believed: on
  loopback, too, anybody could write it. Nor are `X-Forwarded-For` and its like believed anywhere.
- A page on some other site must not read ours through somebody's browser. It could have its own name resolved to our
  address (DNS rebinding): so without a token or a proxy's user the Host header must be a name of this machine.
- The health checks, the login form and the files that are the same in every installation are for everybody.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from policyd.errors import SettingsError, reason_of
from policyd.files import read_secret
from policyd.web.rate_limit import RateLimit

METHODS = ("GET", "HEAD", "POST")
SESSION_SECONDS = 12 * 3600  # a working day: then the token is typed again
COOKIE = "policyd-session"
LOGIN_PATH = "/login"
STATIC_PATH = "/static/"
TOKEN_BYTES = (20, 512)  # the fewest and the most of a token
WRONG_TOKENS_EACH, WRONG_TOKENS_TOTAL, WRONG_TOKENS_SECONDS = 10, 100, 60

_FOR_PROGRAMS = ("/metrics", "/healthz", "/readyz")
_FOR_EVERYBODY = ("/healthz", "/readyz", LOGIN_PATH)
_OUR_NAMES = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?", re.IGNORECASE)
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
_TOKEN = re.compile(r"[!-~]+")
_USER_LIMIT = 256  # characters of a user's name


class Way(Enum):
    """How a request came here."""

    UNIX = auto()
    LOOPBACK = auto()
    REMOTE = auto()


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a request before anybody reads it. Names of *headers* are in lower case.

    *peer* is an IP address, or "" over a unix socket. Texts are as they came, a byte a character.
    """

    way: Way
    peer: str
    method: str
    path: str
    headers: Mapping[str, Sequence[str]]

    @property
    def is_for_program(self) -> bool:
        """Whether a program asks, which wants no page."""
        return self.path in _FOR_PROGRAMS

    @property
    def peer_key(self) -> str:
        """Under what the peer is counted: an IPv6 host has the last 64 bits of its address to choose from."""
        if not self.peer:
            return "unix"
        address = ip_address(self.peer.partition("%")[0])
        if not isinstance(address, IPv6Address):
            return str(address)
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"

    def header(self, name: str) -> str | None:
        """The value of the one header of that name; None where there is none, or more than one."""
        values = self.headers.get(name, ())
        return values[0] if len(values) == 1 else None


class Allowed(NamedTuple):
    """The request may be answered, for *user*, as a reverse proxy calls whoever asks; "" where nobody says."""

    user: str = ""


class Refused(NamedTuple):
    """The request is answered with *status* and *text* only.

    The log says *why*, in the same words whatever was asked; where that is "", nobody tried anything.
    """

    status: int
    text: str
    why: str = ""
    is_login: bool = False  # the token may be typed


Judgement = Allowed | Refused

_BAD_HOST = Refused(400, "A request needs one Host header, with a name or an address.", "no proper Host header")
_BAD_PATH = Refused(400, "The path of a request begins with a slash.", "no path")
_BAD_METHOD = Refused(405, f"Only {', '.join(METHODS)} are known here.", "another method")
_CROSS_SITE = Refused(403, "This request was sent by a page of another site.", "sent by another site's page")
_BAD_USER = Refused(400, "The reverse proxy's header with the user's name is not one line of UTF-8.", "bad user header")
_NO_USER = Refused(
    403,
    "The reverse proxy does not say who you are. Its configuration must set the header that the setting user_header "
    "names, for users that it knows.",
    "a proxy names no user",
)
_REMOTE = Refused(403, "From another machine, a token is needed: see the setting token_file.", "no token is set")
_FORWARDED_ONLY = Refused(
    403,
    "This request came through a proxy, which must say who its user is over a unix socket (user_header); or set a "
    "token (token_file).",
    "a proxy names no user",
)
_ANOTHER_NAME = Refused(
    421,
    "Without a token, this is only for localhost, 127.0.0.1 and [::1], by these names: see the settings token_file "
    "and user_header.",
    "asked for under another name",
)
_TOO_MANY = Refused(429, "There were too many wrong tokens. Wait a minute.", "too many wrong tokens", is_login=True)
_WRONG_TOKEN = Refused(401, "This is not the token.", "wrong token", is_login=True)
_SESSION_OVER = Refused(401, "The session is over. Type the token again.", is_login=True)
_TOKEN_WANTED = Refused(401, "A token is needed.", is_login=True)
_BEARER_WANTED = Refused(401, "A token is needed: Authorization: Bearer TOKEN.", "no token", is_login=True)


class Access:
    """Judges requests by the *token*, if there is one, and the name of the *user_header*, if a proxy sets one."""

    def __init__(self, token: str = "", user_header: str = "") -> None:
        self._token = token.encode("latin-1")
        self._user_header = user_header.lower()
        self._wrong = RateLimit(WRONG_TOKENS_EACH, WRONG_TOKENS_TOTAL, WRONG_TOKENS_SECONDS)

    def judge(self, arrival: Arrival, now: int) -> Judgement:
        """Who it is that asks at *now*, in Unix seconds, or why there is no answer."""
        if refused := _malformed(arrival) or _cross_site(arrival):
            return refused
        if arrival.path in _FOR_EVERYBODY or arrival.path.startswith(STATIC_PATH):
            return Allowed()
        if self._user_header and arrival.way is Way.UNIX and any(arrival.headers.get(self._user_header, ())):
            return _proxy_user(arrival.header(self._user_header))
        if self._token:
            return self._judge_token(arrival, now)
        return self._judge_place(arrival)

    def log_in(self, arrival: Arrival, typed: str, now: int) -> str | Refused:
        """The cookie, with its attributes, for whoever *typed* the token, or why there is none."""
        if not self._token:
            return Refused(404, "There is no token, and so no session.")
        if refused := self._check_token(arrival, typed.strip(), now):
            return refused
        until = now + SESSION_SECONDS
        return _cookie(arrival, f"{until}.{self._seal(until)}", SESSION_SECONDS)

    def log_out(self, arrival: Arrival) -> str:
        """The cookie that ends a session."""
        return _cookie(arrival, "", 0)

    def _judge_token(self, arrival: Arrival, now: int) -> Judgement:
        scheme, _, given = (arrival.header("authorization") or "").partition(" ")
        if scheme.lower() == "bearer":
            return self._check_token(arrival, given.strip(), now) or Allowed()
        session = _session(arrival.headers.get("cookie", ()))
        if session and self._is_session(session, now):
            return Allowed()
        if arrival.is_for_program:
            return _BEARER_WANTED
        return _SESSION_OVER if session else _TOKEN_WANTED

    def _check_token(self, arrival: Arrival, given: str, now: int) -> Refused | None:
        """None where *given* is the token. Whoever has guessed too often may not guess."""
        if self._wrong.is_reached(arrival.peer_key, now):
            return _TOO_MANY
        if hmac.compare_digest(given.encode("utf-8", "replace"), self._token):
            return None
        self._wrong.count(arrival.peer_key)
        return _WRONG_TOKEN

    def _is_session(self, session: str, now: int) -> bool:
        """Whether it is one that this token began and that is not over. Nobody can guess one, so none are counted."""
        until, _, seal = session.partition(".")
        if not re.fullmatch(r"\d{1,12}", until, re.ASCII) or not now < int(until) <= now + SESSION_SECONDS:
            return False
        return hmac.compare_digest(seal.encode("utf-8", "replace"), self._seal(int(until)).encode())

    def _seal(self, until: int) -> str:
        """What only who has the token can know of a session until then: with another token, all sessions are over."""
        return hmac.new(self._token, b"policyd session until %d" % until, hashlib.sha256).hexdigest()

    def _judge_place(self, arrival: Arrival) -> Judgement:
        """Whether it comes from this machine, and from nobody who was sent here."""
        if self._user_header and arrival.way is Way.UNIX:
            return _NO_USER
        if arrival.way is Way.REMOTE:
            return _REMOTE
        if any(name in arrival.headers for name in _FORWARDED):
            return _FORWARDED_ONLY
        if not _is_our_name(arrival):
            return _ANOTHER_NAME
        return Allowed()


def read_token(path: Path) -> str:
    """The token in the file at *path*. Raises SettingsError, which says how one is made."""
    make = f"make one with: (umask 077; openssl rand -hex 32 > {path})"
    try:
        token = read_secret(path, TOKEN_BYTES[1] + 2).decode("ascii").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"http.token_file: {path}: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"http.token_file: {path}: it is not ASCII text; {make}") from error
    if not _TOKEN.fullmatch(token) or not TOKEN_BYTES[0] <= len(token) <= TOKEN_BYTES[1]:
        least, most = TOKEN_BYTES
        raise SettingsError(f"http.token_file: {path}: must be one word of {least} to {most} characters; {make}")
    return token


def _malformed(arrival: Arrival) -> Refused | None:
    if arrival.method not in METHODS:
        return _BAD_METHOD
    if not arrival.path.startswith("/"):
        return _BAD_PATH
    return None if _host(arrival) else _BAD_HOST


def _host(arrival: Arrival) -> re.Match[str] | None:
    return _HOST.fullmatch(arrival.header("host") or "")


def _is_our_name(arrival: Arrival) -> bool:
    """Whether it was asked for by a name of this machine; with any port: ssh -L has another one."""
    host = _host(arrival)
    return host is not None and host["name"].lower() in _OUR_NAMES


def _cross_site(arrival: Arrival) -> Refused | None:
    """Refuses a form that another site's page sent.

    A browser says so in Sec-Fetch-Site, over HTTPS and on loopback, else in Origin. That is "null" for our own forms,
    too, because of our Referrer-Policy. Where it is, the browser is none of today's, or the way is not safe anyway: a
    search changes nothing, and its answer can't be read by the other page.
    """
    if arrival.method != "POST":
        return None
    site = arrival.header("sec-fetch-site")
    if site is not None:
        return None if site in ("same-origin", "none") else _CROSS_SITE
    origin = arrival.header("origin")
    if origin is None or origin == "null":
        return _CROSS_SITE if len(arrival.headers.get("origin", ())) > 1 else None
    scheme, _, host = origin.lower().partition("://")
    is_ours = scheme in ("http", "https") and host == (arrival.header("host") or "").lower()
    return None if is_ours else _CROSS_SITE


def _proxy_user(value: str | None) -> Judgement:
    """The user that the proxy names, over the socket that only it can reach."""
    try:
        user = (value or "").encode("latin-1").decode("utf-8").strip()
    except UnicodeDecodeError:
        return _BAD_USER
    return Allowed(user) if user.isprintable() and 0 < len(user) <= _USER_LIMIT else _BAD_USER


def _session(cookies: Sequence[str]) -> str:
    """The session in the Cookie headers, or ""."""
    for each in ";".join(cookies).split(";"):
        name, _, value = each.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _cookie(arrival: Arrival, value: str, seconds: int) -> str:
    """The cookie for a browser.

    It is Secure where the browser came over HTTPS, as its Origin says, or its Sec-Fetch-Site: that is sent only over
    HTTPS, and on loopback.
    """
    is_https = (arrival.header("origin") or "").startswith("https://")
    is_https = is_https or (arrival.header("sec-fetch-site") is not None and not _is_our_name(arrival))
    secure = "; Secure" if is_https else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
