"""Addresses inside of addresses, as Postfix's trivial-rewrite takes them apart."""

import pytest

from policyd.route import inner_addresses


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("bob@example.com", []),
        ("bob", []),
        ("", []),
        ("bob%example.com", ["bob@example.com"]),
        ("bob%example.com@mx.example.com", ["bob@example.com"]),
        ("example.com!bob@mx.example.com", ["bob@example.com"]),
        ("a!b%c@mx", ["b%c@a", "b@c"]),
        ("a%b%c@mx", ["a%b@c", "a@b"]),
        ("bob@example.com@mx", ["bob@example.com"]),
        ("bob@example.com.@mx", ["bob@example.com"]),
        ("@one.example,@two.example:bob@mx", ["bob@"]),
        ("!bob", ["bob@"]),
        ("bob%", ["bob@"]),
        ("bob@@mx", ["bob@"]),
    ],
)
def test_each_address_inside_is_seen_from_the_outermost_to_the_innermost(text: str, inner: list[str]) -> None:
    """So that a restriction holds whatever is put around the address."""
    found = list(inner_addresses(text))
    assert [address for address, _ in found] == inner
    assert [is_innermost for _, is_innermost in found] == [address == inner[-1] for address, _ in found]


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        pytest.param('bob\\+x"<!..@mx', ["bob+x <!..@"], id="a bang in a string without an end is none"),
        pytest.param('bob+"x!y"@mx', ["bob+ x!y@"], id="a bang in a string is none"),
        pytest.param("example.com(!)!bob@mx", ["bob@example.com (!)"], id="a bang in a comment is none"),
        pytest.param("(a(!)b)!c@mx", ["c@(a(!)b)"], id="comments nest"),
        pytest.param("(a!b@mx", ["(a!b@"], id="a comment without an end"),
        pytest.param("(\\)!)!b@mx", ["b@(\\)!)"], id="a bracket that is no end"),
        pytest.param("[!]!bob@mx", ["bob@[!]"], id="a bang in a literal is none"),
        pytest.param("[x!y!bob@mx", ["[x!y!bob]@"], id="a literal without an end"),
        pytest.param("a b!bob@mx", ["bob@a b"], id="a blank parts words"),
        pytest.param('x" "!bob\\@mx', ["bob@x  "], id="a backslash at the end takes nothing"),
        pytest.param("<a>!b,c@mx", ["b, c@ <a>"], id="blanks after a comma, and before a bracket"),
        pytest.param("a <b%c@mx", ["a <b@c"], id="what comes with a percent sign keeps its quotes"),
        pytest.param("\\!bob@mx", ["!bob@", "bob@"], id="what is escaped needs quotes, and is opened again"),
        pytest.param("%'\t:bob+x @mx", ["bob+x @"], id="a route may begin inside"),
        pytest.param("x%a.b.@mx", ["x@a.b"], id="a dot at the end goes"),
        pytest.param("@a[b:c@]@mx%", ['@a [b:"c@] @mx%'], id="the last at sign may be in a string"),
        pytest.param('!a!b"c"@mx', ["a!bc@", "bc@a"], id="after a bang without a host no blank comes"),
    ],
)
def test_what_is_in_quotes_is_parsed_as_postfix_parses_it(text: str, inner: list[str]) -> None:
    """A quoted local part is opened by Postfix if it has an operator in it, and read as an address."""
    assert [address for address, _ in inner_addresses(text)] == inner
