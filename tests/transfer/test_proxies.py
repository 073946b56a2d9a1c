"""Addresses as people and programs put several into one text."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.errors import AddressError
from policyd.records import Problem
from policyd.transfer.proxies import EMPTY, OTHER, address_of, addresses_of, read_proxies, split_proxies
from policyd.transfer.values import CellError, as_typed, quote_in_file, split_list
from tests.support.tables_strategies import addresses


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a@x b@x", ("a@x", "b@x")),
        ("", ()),
        ("SMTP:a@x smtp:b@x", ("SMTP:a@x", "smtp:b@x")),
        ("SMTP: a@x; smtp: <b@x>", ("SMTP:a@x", "smtp:b@x")),
        ("SMTP:; a@x", ("SMTP:", "a@x")),
        ("{SMTP:a@x, smtp:b@x}", ("SMTP:a@x", "smtp:b@x")),
        ("{}", ()),
        ('["a@x", "b@x"]', ("a@x", "b@x")),
        ("['a@x', 'b@x']", ("a@x", "b@x")),
        ("Bob Smith <b@x>; Smith, Ann <a@x>", ("b@x", "a@x")),
        ('"Smith, Bob" <b@x>', ("b@x",)),
        ("b@x <B@x>", ("b@x", "B@x")),
        ("'b@x'", ("b@x",)),
        ('"a@x; b@x"', ("a@x", "b@x")),
        ('"john doe"@x SMTP:"a b"@x', ('"john doe"@x', 'SMTP:"a b"@x')),
        ("X400:c=US;a= ;p=Org; smtp:a@x", ("X400:c=US", "smtp:a@x")),
        ("X400:c=US\\;a= \\;p=Org\\;;SMTP:a@x", ("X400:c=US;a=", "SMTP:a@x")),
        ('X500:/o=Org/cn=a@x "b c" smtp:a@x', ("X500:/o=Org/cn=a@x", "smtp:a@x")),
        ("sip:a@x;b@x", ("sip:a@x", "b@x")),
        ("alice bob", ("alice", "bob")),
        ("alice; b@x", ("alice", "b@x")),
        ("a@[IPv6:2001:db8::1]", ("a@[IPv6:2001:db8::1]",)),
    ],
)
def test_values_are_found_in_a_text(text, values):
    """Whatever stands between them, or is not meant for us."""
    assert split_proxies(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a@x <b@x>", "is two addresses"),
        ('SMTP:"a@x', "does not end"),
        ("Bob <b@x", "does not end"),
        ("System.String[]", "name of a type"),
        ("Microsoft.Exchange.Data.Directory.ADMultiValuedProperty`1[Microsoft.Exchange.Data.X]", "name of a type"),
        ("{SMTP:a@x, smtp:b@x...}", "cut short"),
        ("SMTP:a@x smtp:b@x…", "cut short"),
    ],
)
def test_text_without_all_of_its_addresses_is_refused(text, message):
    """To take what is there would lose somebody's mail."""
    with pytest.raises(CellError, match=message):
        split_proxies(text)


def test_primary_address_comes_first_and_others_are_counted():
    """By its type in capitals, wherever it stands."""
    found = addresses_of(("smtp:B@x.org", "X500:/o=a", "SMTP:a@x.org", "smtp:", "mailto:c@x.org?subject=hi", "b@X.org"))
    assert found.all == ("a@x.org", "b@x.org", "c@x.org")
    assert found.skipped == ("X500", EMPTY)


def test_values_that_no_person_writes_are_skipped_in_a_directory_only():
    """There they are somebody's old connector; in a spreadsheet they are a slip."""
    odd = [("c", value) for value in ("notes (old):a@x", ":", "/o=Org/cn=a")]
    assert read_proxies(odd, is_directory=True).skipped == (OTHER, OTHER, OTHER)
    assert [problem.column for problem in read_proxies(odd).problems] == ["c", "c", "c"]


def test_wrong_address_is_a_problem_of_its_column():
    """Also in a directory: it would be missing."""
    message = "'a' is not an address; an address looks like alice@example.com"
    assert read_proxies([("mail", "a")], is_directory=True).problems == (Problem(message, "mail"),)
    with pytest.raises(CellError, match="is not an address"):
        addresses_of(["a"])


def test_where_one_address_is_wanted_there_is_one():
    """The key `address` of an address's own line."""
    assert address_of("mailto:A@x.org") == "a@x.org"
    assert address_of("a", "x.org") == "a@x.org"
    for text in ("a@x.org b@x.org", "X500:/o=a"):
        with pytest.raises(CellError, match="is not one address"):
            address_of(text)


@given(st.lists(addresses, unique=True))
def test_addresses_as_we_write_them_are_read_as_they_are(some):
    """Whatever a local part holds, in quotes."""
    for between in (" ", "; ", ","):
        assert addresses_of(split_proxies(between.join(map(quote_in_file, some)))).all == tuple(some)


@given(st.text(alphabet=st.sampled_from("ab@x.:;,<>\"'\\{}[] =/-SMTPsmtp…"), max_size=40))
def test_no_text_is_worse_than_refused(text):
    """Files hold anything."""
    with contextlib.suppress(CellError, AddressError):
        addresses_of(split_proxies(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("carla dirk", ("carla", "dirk")),
        ("carla; dirk", ("carla", "dirk")),
        ("All Staff; group:Board Members, @x.org", ("All Staff", "group:Board Members", "@x.org")),
        ('"Doe, Jane"; "group:All Staff"', ("Doe, Jane", "group:All Staff")),
        ("a@x @y", ("a@x", "@y")),
        ("a@x @y; user@", ("a@x", "@y", "user@")),
        ("Bob Smith <b@x>, a@x", ("Bob Smith <b@x>", "a@x")),
        (";carla;;", ("carla",)),
        ("<>; alice", ("<>", "alice")),
    ],
)
def test_lists_of_parties_are_separated_as_people_do_it(text, words):
    """Names have blanks; what is between commas or semicolons is one."""
    assert split_list(text) == words


@pytest.mark.parametrize(
    ("cell", "typed"),
    [
        ("Bob Smith <bob@x.example>", "bob@x.example"),
        ("<smtp:bob@x.example>", "bob@x.example"),
        ("MAILTO: bob@x.example", "bob@x.example"),
        ("@x.example", "@x.example"),
        ("group:staff", "group:staff"),
        ("<>", "<>"),
    ],
)
def test_address_of_somebody_is_taken_off_what_mail_programs_write_around_it(cell, typed):
    """Copied from a mail, it means the address; what means something here stays as it is."""
    assert as_typed(cell) == typed
