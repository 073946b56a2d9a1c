"""csv of a directory: what csvde and PowerShell's Export-Csv write of mailboxes, groups and contacts.

Each row is read as the entry of an LDIF file that it would be, under Active Directory's names or those of Exchange's
commands: `proxyAddresses` or `EmailAddresses`. Of our own columns, those of a restriction may stand beside them. Where
a file has only primary addresses, they join those there are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from policyd.address import fold, name_after
from policyd.errors import AddressError
from policyd.records import ListEdit, MailboxRow, Notice, Problem, Record
from policyd.transfer.cells import read_cell, unguarded
from policyd.transfer.columns import key_of, leave_out
from policyd.transfer.delimited import Fields, read_table
from policyd.transfer.directory_columns import ATTRIBUTES
from policyd.transfer.fields import KEYS, Kind
from policyd.transfer.formats import ReadOptions
from policyd.transfer.ldif.entries import ACCEPTED, MEMBERS, REJECTED, Entry
from policyd.transfer.ldif.names import Name, escape_value, name_key, parse_name
from policyd.transfer.ldif.people import find_people, is_group
from policyd.transfer.ldif.read import read_entry
from policyd.transfer.proxies import need_whole, read_proxies, split_proxies
from policyd.transfer.values import CellError

# How those are called that a person may have in mind with a slip.
_SPELLED = (
    *("DN", "DistinguishedName", "objectClass", "mailNickname", "sAMAccountName", "proxyAddresses", "otherMailbox"),
    *("targetAddress", "authOrig", "dLMemSubmitPerms", "unauthOrig", "dLMemRejectPerms", "msExchRequireAuthToSendTo"),
    *("member", "mail", "Name", "Alias", "PrimarySmtpAddress", "EmailAddresses", "ExternalEmailAddress"),
    *("RecipientType", "RecipientTypeDetails", "RequireSenderAuthenticationEnabled", "AcceptMessagesOnlyFrom"),
    *("AcceptMessagesOnlyFromDLMembers", "AcceptMessagesOnlyFromSendersOrMembers", "RejectMessagesFrom"),
    *("RejectMessagesFromDLMembers", "RejectMessagesFromSendersOrMembers"),
)
_ADDRESSES = ("mail", "proxyaddresses", "othermailbox", "targetaddress")
_WHOLE = frozenset({"proxyaddresses", "othermailbox"})  # of whose columns a file that has one says all addresses
_NAMES = ("mailnickname", "uid", "cn", "samaccountname")
_PARTIES = frozenset({*ACCEPTED, *REJECTED, *MEMBERS})
_OWN = ("receive", "accept", "reason", "until", "comment")  # columns of ours that may stand beside
_MACHINE_MADE = 40  # columns and more: nobody has typed these

_HEX = re.compile(r"(?:^|(?<=;))X'((?:[0-9A-Fa-f]{2})*)'(?=;|$)")
_NAMES_IN_CELL = re.compile(r"(?:\\.|[^;\\])+", re.DOTALL)
_DN = re.compile(r"(?:CN|UID)=(?:\\.|[^;\\])*?(?:,\s*DC=[^,;\s{}]+)+", re.IGNORECASE | re.DOTALL)
_DN_START = re.compile(r"\s*[A-Za-z][A-Za-z0-9-]*\s*=")
_CANONICAL = re.compile(r"[,\s]+(?=[\w-]+(?:\.[\w-]+)+/)")


def read(stream: BinaryIO, options: ReadOptions) -> Iterator[Record | Notice]:
    """The mailboxes in *stream*, which is read more than once, and the groups that their restrictions name.

    Raises TransferError for a column that may be a slip.
    """
    # The header says what the columns are.
    fields = next(read_table(stream))
    header = _read_header(fields)
    yield from header.notices

    # Restrictions name entries that may come later, under any of their names.
    table = _Table(stream, header)
    if not header.attributes.isdisjoint({*ACCEPTED, *REJECTED}):
        table.find_names()
    people = find_people(table, options)

    # Then each row is read as an entry.
    for row in table.rows():
        yield row.record if row.entry is None else _finish(row, read_entry(row.entry, people, options), header, options)


@dataclass(frozen=True, slots=True)
class _Header:
    """The columns: of attributes, and of our own; the name in the file by attribute; notices about those left out."""

    columns: tuple[tuple[int, str], ...]
    own: tuple[tuple[int, str], ...]
    spelled: Mapping[str, str]
    width: int
    notices: tuple[Notice, ...]

    @property
    def attributes(self) -> frozenset[str]:
        """Those that the file has."""
        return frozenset(attribute for _, attribute in self.columns)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as an entry, with our own columns; or, without an entry, the record of what is wrong with it."""

    record: Record
    entry: Entry | None = None
    own: Mapping[str, str] = field(default_factory=dict)
    has_name: bool = True


def _read_header(fields: Fields) -> _Header:
    columns, own, others = [], [], []
    spelled: dict[str, str] = {}
    for index, cell in enumerate(fields.cells):
        key = key_of(cell)
        if attribute := ATTRIBUTES.get(key, ""):
            columns.append((index, attribute))
            spelled.setdefault(attribute, cell.strip())
        elif key in _OWN:
            own.append((index, key))
        if key not in _OWN and (not attribute or key == "displayname"):
            others.append(cell.strip())
    is_lenient = key_of(fields.cells[0]) == "dn" or len(fields.cells) >= _MACHINE_MADE
    notices = leave_out(fields.line, others, (*_SPELLED, *_OWN), is_lenient=is_lenient)
    return _Header(tuple(columns), tuple(own), spelled, len(fields.cells), tuple(notices))


class _Table:
    """The entries of a table; each time they are wanted, the file is read again."""

    def __init__(self, stream: BinaryIO, header: _Header) -> None:
        self._stream = stream
        self._header = header
        self._known: dict[str, set[str]] | None = None  # whom a name in a restriction means, once that is found out

    def find_names(self) -> None:
        """Find out whom the restrictions mean that name somebody by anything but a distinguished name."""
        wanted = {
            key
            for entry in self._entries()
            for attribute in _PARTIES
            for text in entry.values.get(attribute, ())
            for key in self._keys(text)
        }
        known: dict[str, set[str]] = {key: set() for key in wanted}
        for entry in self._entries() if wanted else ():
            for key in _own_keys(entry) & wanted:
                known[key].add(_written(entry.name))
        self._known = known

    def rows(self) -> Iterator[_Row]:
        """Each row of the file."""
        records = read_table(self._stream)
        header = next(records)
        for fields in records:
            is_header = not fields.problem and fields.cells == header.cells  # again, of files put together
            if fields.problem or (not is_header and any(map(str.strip, fields.cells))):
                yield self._read_row(fields)

    def restricted(self) -> Iterator[Entry]:
        """The entries that accept or reject somebody."""
        wanted = {*ACCEPTED, *REJECTED}
        return (entry for entry in self._entries() if not wanted.isdisjoint(entry.values))

    def named(self, keys: set[bytes]) -> Iterator[Entry]:
        """The entries with these names; groups only if the file says who is in them."""
        says_members = not self._header.attributes.isdisjoint(MEMBERS)
        return (
            entry
            for entry in self._entries()
            if name_key(entry.name) in keys and (says_members or not is_group(entry.values))
        )

    def _entries(self) -> Iterator[Entry]:
        return (row.entry for row in self.rows() if row.entry is not None and not row.entry.problems)

    def _read_row(self, fields: Fields) -> _Row:
        # A row may be shorter than the header, as some programs leave empty cells at the end out.
        width, cells = self._header.width, fields.cells
        if fields.problem or any(cells[width:]):
            problem = fields.problem or f"has {len(cells)} cells, the header {width}"
            return _Row(Record(fields.line, fields.source, problems=(Problem(f"this row {problem}"),)))
        cells += ("",) * (width - len(cells))

        # The values of each attribute, from all of its columns.
        values: dict[str, list[str]] = {}
        problems = []
        for index, attribute in self._header.columns:
            text = _HEX.sub(_decoded, unguarded(cells[index].strip()))
            try:
                found = _split(attribute, text) if text else ()
            except CellError as error:
                problems.append(Problem(str(error), attribute))
                continue
            if attribute in _PARTIES:
                found = tuple(each for text in found for each in self._resolved(text))
            if found:
                values.setdefault(attribute, []).extend(found)
        has_name = any(values.get(attribute) for attribute in _NAMES)
        try:
            name = parse_name(values["dn"][0]) if "dn" in values else (("row", str(fields.line)),)
        except ValueError as error:
            name = (("row", str(fields.line)),)
            problems.append(Problem(str(error), "dn"))
        values["cn"] = [*values.get("cn", ()), *values.get("samaccountname", ()), *_fallback(name, values)]
        entry = Entry(fields.line, fields.source, name, values=values, problems=tuple(problems))
        own = {column: cells[index].strip() for index, column in self._header.own}
        return _Row(Record(fields.line, fields.source), entry, own, has_name or "dn" in values)

    def _keys(self, text: str) -> tuple[str, ...]:
        """Under which names somebody may be found whom a restriction calls *text*, the surest first."""
        if not _DN_START.match(text):
            return (fold(text), fold(text.rpartition("/")[2])) if "/" in text else (fold(text),)
        try:
            name = parse_name(text)
        except ValueError:
            return ()
        # Where entries have no distinguished names, the first part of one has to do.
        return (_written(name).casefold(),) if "dn" in self._header.attributes else (fold(name[0][1]),)

    def _resolved(self, text: str) -> tuple[str, ...]:
        """The distinguished name of whom *text* means, where that is another; of several, each."""
        if self._known is None:
            return (text,)
        for key in self._keys(text):
            if found := self._known.get(key):
                return tuple(found) if len(found) == 1 else (f"cn={escape_value(text)}+cn=several of this name",)
        return (text,) if _DN_START.match(text) else (f"cn={escape_value(text)}",)


def _split(attribute: str, text: str) -> tuple[str, ...]:
    """The values in a cell of *attribute*."""
    if attribute in _ADDRESSES:
        return split_proxies(text)
    if attribute in _PARTIES:
        return _split_parties(text)
    if attribute == "objectclass":
        return tuple(_class(word) for word in re.split(r"[;,\s]+", text.strip("{}")) if word)
    return (text,)


def _split_parties(text: str) -> tuple[str, ...]:
    """Those whom a cell names: by distinguished names, by places such as `example.com/Staff/Carla`, or by names."""
    need_whole(text)
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    found = []
    for piece in _NAMES_IN_CELL.findall(text):
        piece = piece.replace("\\;", ";").replace("\\\\", "\\").strip()
        if _DN_START.match(piece):
            names = _DN.findall(piece)
            rest = _DN.sub("", piece).strip(" ,\t\n")
            found += [piece] if rest or not names else names
        elif "/" in piece:
            found += [each.strip() for each in _CANONICAL.split(piece)]
        elif "@" in piece:
            found += split_proxies(piece)
        else:
            found += [each.strip() for each in piece.split(",")]
    return tuple(each for each in found if each)


def _own_keys(entry: Entry) -> set[str]:
    """Under which names a restriction may mean *entry*."""
    texts = [text for attribute in (*_NAMES, "identity") for text in entry.values.get(attribute, ())]
    proxies = [("", text) for attribute in _ADDRESSES for text in entry.values.get(attribute, ())]
    addresses = read_proxies(proxies, is_directory=True)
    return {*map(fold, texts), *map(fold, addresses.all), _written(entry.name).casefold()}


def _fallback(name: Name, values: Mapping[str, Sequence[str]]) -> list[str]:
    """What a mailbox is called by where no column names it: its place in the directory, or else its address."""
    found = [name[0][1]] if name and name[0][0] in ("cn", "uid") else []
    addresses = read_proxies([("", text) for one in _ADDRESSES[:2] for text in values.get(one, ())]).all
    return [*found, *map(name_after, addresses[:1])]


def _finish(row: _Row, record: Record, header: _Header, options: ReadOptions) -> Record:
    """*record* with what our own columns say, and its problems under the file's own names of columns."""
    problems = [replace(each, column=header.spelled.get(each.column.lower(), each.column)) for each in record.problems]
    said: dict[str, Any] = {}
    for column, cell in row.own.items():
        attribute, parse = KEYS[Kind.MAILBOX][column]
        try:
            if text := unguarded(cell):
                said[attribute] = read_cell(column, parse)(text, options.domain)
        except (AddressError, CellError) as error:
            problems.append(Problem(str(error), column))
    if problems:
        return replace(record, rows=(), problems=tuple(problems))

    # Primary addresses alone are not all there are.
    is_whole = not header.attributes.isdisjoint(_WHOLE)
    rows = []
    for each in record.rows:
        if isinstance(each, MailboxRow):
            edit = each.addresses
            if isinstance(edit, ListEdit):
                edit = replace(edit, clear=edit.clear and is_whole)
            is_named = not row.has_name and isinstance(edit, ListEdit) and bool(edit.add)
            is_flag = each.is_flag and "receive" not in said
            each = replace(each, **said, addresses=edit, is_flag=is_flag, is_named_by_address=is_named)
        rows.append(each)
    return replace(record, rows=tuple(rows))


def _class(word: str) -> str:
    """What an entry is, from LDAP's class or the recipient type of Exchange."""
    if word.lower().endswith("group"):
        return "group"
    return "contact" if word.lower() in ("mailcontact", "contact") else word


def _decoded(match: re.Match[str]) -> str:
    """The text of a value that csvde writes in hexadecimal, its separators escaped; "" where it is none."""
    try:
        text = bytes.fromhex(match[1]).decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return re.sub(r"([\\;])", r"\\\1", text)


def _written(name: Name) -> str:
    return ",".join(f"{kind}={escape_value(value)}" for kind, value in name)
