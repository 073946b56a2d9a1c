"""Which format a file is in, told from its beginning."""

import io
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from policyd.errors import TransferError
from policyd.records import BlockRow
from policyd.transfer import address_list, csv_table, detect, formats, jsonl, postfix
from policyd.transfer.columns import key_of
from policyd.transfer.detect import detect_format
from policyd.transfer.formats import FORMATS, Format, load_format
from policyd.transfer.text import need_text
from tests.support.parties import party
from tests.support.randomised import examples
from tests.support.tables_strategies import FixedTables, tables
from tests.support.transfer_reading import rows_of, written


@pytest.mark.parametrize(
    ("content", "name"),
    [
        pytest.param("Obj-Class,Mode,Directory Name\nMailbox,,a\n", "exchange-csv", id="Exchange"),
        pytest.param('"obj-class"\t"Directory Name"\n', "exchange-csv", id="Exchange, quoted, with tabs"),
        pytest.param("version: 1\n\ndn: cn=a\n", "ldif", id="LDIF with its version"),
        pytest.param("# extended LDIF\n#\n\ndn:: Y249YQ==\n", "ldif", id="ldapsearch"),
        pytest.param("# extended LDIF\n# requesting: mail unauthOri\n g\n\ndn: cn=a\n", "ldif", id="folded comment"),
        pytest.param("name,addresses\na,a@example.com\n", "csv", id="csv"),
        pytest.param("address\na@example.com\n", "csv", id="csv of one column"),
        pytest.param("\ufeffName;Reason;Phone\n", "csv", id="csv of a German Excel"),
        pytest.param('{"kind": "domain"}\n', "jsonl", id="jsonl"),
        pytest.param('\n{"kind": \n', "jsonl", id="jsonl with a broken first line"),
        pytest.param("# ours\na@example.com # a\n\nb@example.com\n", "list", id="list"),
        pytest.param('"john doe"@example.com\nalice\n', "list", id="list with a quoted address"),
        pytest.param("<>\n", "list", id="list of the null sender"),
        pytest.param("a@example.com REJECT\n", "postfix", id="access"),
        pytest.param("spam.example\tREJECT\n  go away\n", "postfix", id="access with a continuation"),
        pytest.param("top 550 no\n", "postfix", id="access of a top-level domain"),
        pytest.param("<> REJECT\n", "postfix", id="access of the null sender"),
        pytest.param("alias@example.com a\n", "postfix", id="virtual"),
        pytest.param("example.com anything\nroot a@example.com\n", "postfix", id="virtual with a domain"),
    ],
)
def test_content_tells_the_format(content, name):
    """Nobody should have to know what a file is called."""
    stream = io.BytesIO(content.encode())
    assert detect_format(stream) == name
    assert stream.tell() == 0


def test_what_is_no_text_is_not_taken_for_a_format():
    """It would be rows of nonsense; text is left as it was, for whoever reads it."""
    with pytest.raises(TransferError, match=r"^the file is compressed by gzip; "):
        need_text(io.BytesIO(b"\x1f\x8b\x08\x00"))
    stream = io.BytesIO(b"name,addresses\n")
    need_text(stream)
    assert stream.tell() == 0


@pytest.mark.parametrize("content", [b"", b"\n \n"], ids=["nothing", "empty lines"])
def test_empty_file_is_called_empty(content):
    """No option would help."""
    with pytest.raises(TransferError, match=r"^the file is empty$"):
        detect_format(io.BytesIO(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("# only\n", "can't be told", id="comments"),
        pytest.param("alice\nbob\n", "can't be told", id="words"),
        pytest.param("Dear all,\nhello\n", "can't be told", id="a letter"),
        pytest.param("a@example.com\nb@example.com REJECT\n", "can't be told", id="a mixture"),
        pytest.param("alice bob\n", "can't be told", id="two words"),
        pytest.param("  a@example.com b\n", "can't be told", id="a continuation of nothing"),
        pytest.param("a,b,name,c,d\n", "can't be told", id="columns of another program"),
        pytest.param("[\n {}\n]", "jq -c", id="an array"),
    ],
)
def test_what_cannot_be_told_must_be_said(content, message):
    """A wrong guess would import nonsense; one line says what to type."""
    with pytest.raises(TransferError, match=message) as caught:
        detect_format(io.BytesIO(content.encode()))
    assert "--format" in str(caught.value) or "jq" in str(caught.value)
    assert caught.value.exit_status == 65


@examples(few=10, many=50, suppress_health_check=[HealthCheck.filter_too_much])  # many tables have no address
@given(tables().filter(lambda held: any(addresses for _, addresses in held.mailboxes())))
def test_every_export_is_recognised(held: FixedTables):
    """What we write, we read without being told what it is."""
    for name, module in {"csv": csv_table, "jsonl": jsonl, "list": address_list, "postfix": postfix}.items():
        assert detect_format(io.BytesIO(written(module, held)[0].encode())) == name


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_and_writes(name):
    """The table of formats names places where a format is."""
    assert isinstance(load_format(name), Format)


def test_new_format_is_one_file_and_one_line(tmp_path, monkeypatch):
    """Who adds one needs to know no other."""
    (tmp_path / "shouted_list.py").write_text(
        "from policyd.address import parse_party as party\n"
        "from policyd.records import BlockRow, Record\n"
        "from policyd.transfer.formats import Evidence, Format\n"
        "def read(stream, options):\n"
        "    for number, line in enumerate(stream.read().decode().splitlines(), 1):\n"
        "        yield Record(number, line, (BlockRow(party(line.removesuffix('!'))),))\n"
        "def write(tables, lost):\n"
        "    yield from (f'{entry.who}!\\n' for entry in tables.blocked_senders())\n"
        "def recognize(sample):\n"
        "    return Evidence.LINES if all(line.endswith('!') for line in sample.lines) else Evidence.NONE\n"
        "FORMAT = Format(read, write, recognize)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(formats, "FORMATS", {**FORMATS, "shouted": "shouted_list"})
    monkeypatch.setattr(detect, "FORMATS", formats.FORMATS)
    assert detect_format(io.BytesIO(b"alice!\nbob!\n")) == "shouted"
    assert rows_of(load_format("shouted"), "alice!\n") == [BlockRow(party("alice"))]


@given(st.binary())
def test_any_bytes_are_a_format_or_one_clear_line(raw):
    """A traceback would be the first thing a newcomer sees."""
    with suppress(TransferError):
        assert detect_format(io.BytesIO(raw)) in FORMATS


@pytest.mark.parametrize("bracket", ["[", "("])
def test_brackets_without_an_end_take_no_minutes(bracket):
    """What stands in them is no part of a column's name; to look for each end through all the rest would take hours."""
    assert key_of(f"E-Mail_Address {bracket}Required{']' if bracket == '[' else ')'}") == "emailaddress"
    assert key_of(bracket * 1_000_000) == bracket * 1_000_000
