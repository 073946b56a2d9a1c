"""Parses, compares and writes distinguished names. Source: RFC 4514; the quoted form is RFC 2253's."""

import hashlib
import re

from policyd.address import fold

Name = tuple[tuple[str, str], ...]  # (type in lower case, value), the most specific first; +type in the same RDN

BASE = "ou=policyd"  # below it stands what an export writes
GROUPS = f"ou=groups,{BASE}"
NOBODY = f"cn=accepted by nobody,{BASE}"  # a group that never has members

_SPECIAL = frozenset('"+,;<>\\=')
_PART = re.compile(
    r"""\s*+([a-z][a-z0-9-]*+|[0-9]++(?:\.[0-9]++)*+)\s*+=\s*+           # the type
    ("(?:[^"\\]|\\.)*+"|(?:[^"+,;\\]|\\.)*+)    # the value, never read twice
    \s*+([+,;]|\Z)                                                     # what ends it
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_ESCAPED = re.compile(r"\\([0-9a-f]{2})|\\(.)", re.IGNORECASE | re.DOTALL)


def parse_name(text: str) -> Name:
    """The parts of a distinguished name. The empty one has none. Raises ValueError for what isn't one."""
    text = text.lstrip()
    parts, at, end = [], 0, ""
    while at < len(text) or end:
        match = _PART.match(text, at)
        if not match:
            raise ValueError(f"{text[:100]!a} is not a distinguished name; one looks like cn=Alice,ou=people")
        kind = match[1].lower()
        parts.append((f"+{kind}" if end == "+" else kind, _unescape(match[2])))
        at, end = match.end(), match[3]
    return tuple(parts)


def name_key(name: Name) -> bytes:
    """The same 16 bytes for names of the same directory object: they are compared without case."""
    parts = (f"{kind}={fold(value)}" for kind, value in name)
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def escape_value(text: str) -> str:
    """*text* as a value in a distinguished name."""
    escaped = "".join(f"\\{character}" if character in _SPECIAL else character for character in text)
    if escaped.startswith(("#", " ")):
        escaped = f"\\{escaped}"
    return f"{escaped[:-1]}\\ " if escaped.endswith(" ") else escaped


def _unescape(value: str) -> str:
    """A value without its quotes and backslashes; `\\HH` is a byte of UTF-8. Raises ValueError."""
    if value.startswith('"'):
        value = value[1:-1]
    else:
        bare = value.rstrip()
        is_blank_escaped = (len(bare) - len(bare.rstrip("\\"))) % 2
        value = value[: len(bare) + 1] if is_blank_escaped else bare
    if "\\" not in value:
        return value
    return _ESCAPED.sub(_unescaped, value).encode("utf-8", "surrogateescape").decode("utf-8")


def _unescaped(match: re.Match[str]) -> str:
    """What an escape stands for; a byte above ASCII as a surrogate, to be decoded with its neighbours."""
    if match[1]:
        return bytes.fromhex(match[1]).decode("ascii", "surrogateescape")
    return match[2]
