"""The one normal form of addresses, domains, patterns and names, and what matches what."""

import unicodedata
from functools import partial
from ipaddress import ip_address

import idna
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from policyd.address import (
    NULL_SENDER,
    EmailAddress,
    Encapsulated,
    address_forms,
    decode_imcea,
    domain_for_postfix,
    fold,
    has_domain,
    internal_address,
    is_pattern,
    matching_patterns,
    name_after,
    normal_client,
    normal_domain,
    normal_name,
    normal_pattern,
    normal_realm,
    normal_text,
    parse_address,
    pattern_covers,
    pattern_domain,
    pattern_rank,
    patterns_overlap,
    quote_local_part,
    slip_around_address,
    slip_in_name,
    split_address,
    split_extension,
    unicode_domain,
    without_batv,
)
from policyd.errors import AddressError

SHARP_S = r"\xdf"  # as an error shows it
UNSEEN = "holds a character that nobody sees or that was lost"
NAME = "a name has 1 to 256 characters, no blank at an end"
PATTERN = "is not a pattern; a pattern is user@example.com, @example.com, @.example.com, user@ or <>"

# Any text that a decoder can give: lone surrogates stand for bytes that are not UTF-8.
raw = st.binary(max_size=40).map(lambda each: each.decode("utf-8", "surrogateescape"))
ingredients = st.sampled_from(
    [
        *(
            "@",
            ".",
            "+",
            "-",
            '"',
            "\\",
            "<>",
            "[",
            "]",
            "xn--",
            "ü",
            "ß",
            "İ",
            "Σ",
            "ſ",
            "\u0345",
            "\u0301",
            "。",
            "ŉ",
        ),
        *("example.com", "BÜCHER.example", "alice", "IMCEAEX-_CN=", "IMCEASMTP-a+40b", "\udcff", "\0", "\u202e", "א"),
    ]
)
texts = st.one_of(st.text(max_size=30), raw, st.lists(ingredients, max_size=8).map("".join))
labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789äöüßéñ中文дом", min_size=1, max_size=12)
domains = st.lists(labels, min_size=1, max_size=4).map(".".join)


def raised_by(call, *arguments):
    """The line that a person reads."""
    with pytest.raises(AddressError) as caught:
        call(*arguments)
    return str(caught.value)


def taken(call, text):
    """What *call* makes of *text*, or None where it says in one harmless line why it won't take it."""
    try:
        return call(text)
    except AddressError as error:
        problem = str(error)
    assert problem.isprintable()
    return None


# --- Local parts and names, as they are compared


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        pytest.param("Alice", "alice", id="upper case"),
        pytest.param("STRASSE", "strasse", id="double s"),
        pytest.param("straße", "strasse", id="sharp s is double s"),
        pytest.param("Mu\u0308ller", "müller", id="a decomposed umlaut is the composed one"),
        pytest.param("ΣΊΣΥΦΟΣ", "σίσυφοσ", id="a final sigma is a sigma"),
        pytest.param("\u212b", "å", id="the angstrom sign is the letter"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_local_parts_are_compared_without_case_and_composition(text, folded):
    """Whoever types Müller on another keyboard means the same mailbox."""
    assert fold(text) == folded


@given(st.text())
@example("\u0345\u0301")
@example("ŉ\u0345")
@example("İ")
def test_folding_twice_changes_nothing(text):
    """What is stored folded is found folded."""
    assert fold(fold(text)) == fold(text)
    assert unicodedata.is_normalized("NFC", fold(text))


@given(st.text())
@example("α\u0301\u0345")
def test_canonically_equal_texts_fold_to_one(text):
    """A mailer that decomposes letters reaches the same mailbox."""
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))


@given(st.text())
@example("α\u0345\u0301")  # the iota subscript folds to a letter, and the accent then is on that
def test_what_postfix_takes_for_one_text_folds_to_one(text):
    """Postfix folds without normalising: who restricts a mailbox restricts all that Postfix delivers to it."""
    assert fold(text.casefold()) == fold(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_folds_as_other_text_does(text):
    """The short way for ASCII is only shorter."""
    assert fold(text) == fold(text + "é")[:-1]


# --- Domains


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        pytest.param("example.com", "example.com", id="as it is"),
        pytest.param("EXAMPLE.Com", "example.com", id="upper case"),
        pytest.param("example.com.", "example.com", id="a trailing dot"),
        pytest.param("bücher.example", "xn--bcher-kva.example", id="a U-label"),
        pytest.param("BÜCHER.EXAMPLE", "xn--bcher-kva.example", id="a U-label in upper case"),
        pytest.param("bu\u0308cher.example", "xn--bcher-kva.example", id="a decomposed U-label"),
        pytest.param("XN--BCHER-KVA.example", "xn--bcher-kva.example", id="an A-label in upper case"),
        pytest.param("straße.example", "xn--strae-oqa.example", id="sharp s is a letter of its own"),
        pytest.param("example。com。", "example.com", id="ideographic full stops"),
        pytest.param("ｅｘａｍｐｌｅ.com", "example.com", id="full-width letters"),
        pytest.param("a_b.example", "a_b.example", id="an underscore"),
        pytest.param("localhost", "localhost", id="a single label"),
        pytest.param("[192.0.2.1]", "[192.0.2.1]", id="an address literal"),
        pytest.param("[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]", id="an IPv6 literal"),
        pytest.param("a" * 63 + ".b", "a" * 63 + ".b", id="a label of 63 bytes"),
        pytest.param("a." * 126 + "b", "a." * 126 + "b", id="a domain of 253 bytes"),
    ],
)
def test_one_domain_has_one_form(typed, normal):
    """However a domain is written, the administrator's entry for it counts."""
    assert normal_domain(typed) == normal
    assert split_address(f"x@{typed}") == EmailAddress("x", normal)


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        pytest.param("", "'' is not a domain; a domain looks like example.com", id="nothing"),
        pytest.param(".", "'.' is not a domain; a domain looks like example.com", id="the root"),
        pytest.param("a..b", "'a..b' is not a domain; a domain looks like example.com", id="an empty label"),
        pytest.param("a.b..", "'a.b..' is not a domain; a domain looks like example.com", id="two trailing dots"),
        pytest.param("a b", "'a b' is not a domain; a domain looks like example.com", id="a blank"),
        pytest.param("a\n.b", r"'a\n.b' is not a domain; a domain looks like example.com", id="a line break"),
        pytest.param("-a.b", "'-a.b' is not a domain; a domain looks like example.com", id="a hyphen in front"),
        pytest.param("a-.b", "'a-.b' is not a domain; a domain looks like example.com", id="a hyphen behind"),
        pytest.param("\xad.b", r"'\xad.b' is not a domain; a domain looks like example.com", id="a label of nothing"),
        pytest.param(
            "a" * 64, f"'{'a' * 64}' is not a domain; a domain looks like example.com", id="a label of 64 bytes"
        ),
        pytest.param(
            "a." * 126 + "bc",
            f"'{'a.' * 50}' is not a domain; a domain looks like example.com",
            id="more than 253 bytes",
        ),
        pytest.param(
            "a" * 507,
            f"'{'a' * 100}'… is too long for a domain; a domain has at most 253 characters",
            id="too long to look at",
        ),
    ],
)
def test_what_is_no_domain_is_refused_with_an_example(typed, problem):
    """A mistyped domain is told at once, not found out by mail that gets through."""
    assert raised_by(normal_domain, typed) == problem


@pytest.mark.parametrize("typed", ["♥.example", "ü" * 60 + ".example", "א1a.example", "xn--ü.example"])
def test_what_idna_forbids_is_refused_with_the_reason(typed):
    """The administrator learns which character it is."""
    assert raised_by(normal_domain, typed).startswith(f"{typed!a} is not a domain: ")


LITERAL = "is not an address literal; one looks like [192.0.2.1] or [IPv6:2001:db8::1]"


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        pytest.param("[127.0.0.1].", "[127.0.0.1]", id="a trailing dot"),
        pytest.param("[127.000.000.001]", "[127.0.0.1]", id="zeros"),
        pytest.param("[IPv6:0::1]", "[ipv6:::1]", id="a zero too many"),
        pytest.param("[ipv6:0:0:0:0:0:0:0:1]", "[ipv6:::1]", id="every zero written"),
        pytest.param("[IPV6:2001:0DB8:0::0007].", "[ipv6:2001:db8::7]", id="case, zeros and a dot"),
        pytest.param("[IPv6:2001:db8:0:0:1:0:0:1]", "[ipv6:2001:db8::1:0:0:1]", id="the first gap is the one"),
        pytest.param("[IPv6:::ffff:192.0.2.1]", "[192.0.2.1]", id="an IPv4 address in IPv6"),
        pytest.param("[IPv6:0:0:0:0:0:FFFF:C000:0201]", "[192.0.2.1]", id="the same in hexadecimal"),
        pytest.param("[IPv6:::ffff:192.000.002.001]", "[192.0.2.1]", id="the same with zeros"),
        pytest.param("[IPv6:2001:db8::192.0.2.1]", "[ipv6:2001:db8::c000:201]", id="an IPv4 tail"),
        pytest.param("[::1]", "[ipv6:::1]", id="without the tag"),
    ],
)
def test_one_literal_has_one_form(typed, normal):
    """However an address literal is written, the restriction of the mailbox there counts."""
    assert normal_domain(typed) == normal == normal_domain(normal)
    assert split_address(f"x@{typed}").domain == normal


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "[abc]",
            "[]",
            "[.]",
            "[192.0.2.1",
            "[192.0.2.1]]",
            "[192.0.2.1]..",
            "[192.0.2]",
            "[192.0.2.256]",
            "[1.2.3.4/8]",
        ),
        *("[IPv6:]", "[IPv6:1]", "[IPv6:fe80::1%lo]", "[IPv6:12345::1]", "[x400:abc]", "[example.com]", "[192.0.2.1]x"),
    ],
)
def test_what_is_no_literal_is_refused_with_an_example(typed):
    """A literal that no mail can have would do nothing."""
    assert raised_by(normal_domain, typed) == f"{typed!r} {LITERAL}"
    assert raised_by(normal_pattern, f"@{typed}") == f"{typed!r} {LITERAL}"


@given(st.one_of(st.ip_addresses(), st.ip_addresses(v=4).map(lambda each: ip_address(f"::ffff:{each}"))))
def test_every_spelling_of_a_literal_has_one_form(address):
    """There is no address that somebody could write in a way that policyd doesn't know."""
    tag = "IPv6:" if address.version == 6 else ""
    normal = normal_domain(f"[{tag}{address}]")
    spellings = [address.exploded, address.exploded.upper(), str(address)]
    if address.version == 4:
        spellings.append(".".join(byte.zfill(3) for byte in str(address).split(".")))
    for spelling in spellings:
        for written in (f"[{tag}{spelling}]", f"[{tag.upper()}{spelling}].", f"[{tag.lower()}{spelling}]"):
            assert normal_domain(written) == normal
    assert normal_domain(normal) == normal


# --- What Postfix takes a domain for


@pytest.mark.parametrize(
    ("sent", "domain"),
    [
        pytest.param("example.com", "example.com", id="itself"),
        pytest.param("straße.example", "strasse.example", id="sharp s"),
        pytest.param("STRAẞE.example.", "strasse.example", id="a capital sharp s"),
        pytest.param("σίσυφος.example", normal_domain("σίσυφοσ.example"), id="a final sigma"),
        pytest.param("ſtraſſe.example", "strasse.example", id="long s"),
        pytest.param("\u212aim.example", "kim.example", id="the Kelvin sign"),
        pytest.param("oﬃce.example", "office.example", id="a ligature"),
        pytest.param("İx.example", normal_domain("i\u0307x.example"), id="a dotted capital i"),
        pytest.param("ıx.example", normal_domain("ıx.example"), id="a dotless i is a letter of its own"),
        pytest.param("bücher.example", "xn--bcher-kva.example", id="an umlaut is a letter of its own"),
        pytest.param("xn--strae-oqa.example", "xn--strae-oqa.example", id="an A-label is no U-label"),
        pytest.param("♥.example", "xn--g6h.example", id="a sign that IDNA forbids"),
        pytest.param("example .com", "example.com", id="a blank"),
        pytest.param("exam\\ple.com", "example.com", id="a backslash"),
        pytest.param("example.com\\", "example.com", id="a backslash at the end"),
        pytest.param('"example.com"', "example.com", id="quotes"),
        pytest.param('"STRAßE".example ', "strasse.example", id="all of it"),
        pytest.param("[127.0.0.\\1]", "[127.0.0.1]", id="a backslash in a literal"),
        pytest.param('"[127.0.0.1]"', "[127.0.0.1]", id="a quoted literal"),
        pytest.param("[0177.0.0.01].", "[127.0.0.1]", id="octal numbers in a literal"),
        pytest.param("[018.0.0.1]", "[18.0.0.1]", id="no octal number"),
        pytest.param("192.0.2.1", "[192.0.2.1]", id="a literal without brackets"),
        pytest.param("2001:DB8::1", "[ipv6:2001:db8::1]", id="an IPv6 literal without brackets"),
        pytest.param("", "", id="nothing"),
        pytest.param("a..b", "", id="an empty label"),
        pytest.param("[abc]", "", id="no literal"),
        pytest.param("\udcff.example", "", id="not UTF-8"),
        pytest.param("é" * 200 + ".example", "", id="a label that is too long"),
        pytest.param("exam" + " " * 2040 + "ple.com", "", id="longer than a line of SMTP"),
        pytest.param("exam" + " " * 1000 + "ple.com", "example.com", id="not longer than that"),
        pytest.param("é." * 800, "", id="too long for a domain"),
    ],
)
def test_postfix_takes_a_domain_for_another(sent, domain):
    """What Postfix delivers to strasse.example is judged as mail to strasse.example."""
    assert domain_for_postfix(sent) == domain


@given(st.one_of(domains, texts))
@example("ẞ" * 300)
def test_what_postfix_takes_a_domain_for_is_a_domain_in_normal_form(text):
    """It can be looked up, and Postfix takes it for itself."""
    domain = domain_for_postfix(text)
    if domain:
        assert normal_domain(domain) == domain
        assert domain_for_postfix(domain_for_postfix(domain)) == domain_for_postfix(domain)
        assert domain_for_postfix(domain) == domain or domain[-1].isdecimal()  # a literal without its brackets


@given(domains)
def test_domain_in_unicode_is_the_same_domain(domain):
    """What a notice shows is what was typed."""
    normal = taken(normal_domain, domain)
    assume(normal is not None)
    assert normal_domain(unicode_domain(normal)) == normal


def test_a_label_that_stands_for_nothing_is_shown_as_it_is():
    """Whoever typed an A-label by hand sees it again."""
    assert unicode_domain("xn--g6h.example") == "xn--g6h.example"


@pytest.mark.parametrize(
    ("sent", "forms"),
    [
        pytest.param("Bob@example.com", ["bob@example.com"], id="plain"),
        pytest.param("bob@STRAßE.example", ["bob@xn--strae-oqa.example", "bob@strasse.example"], id="sharp s"),
        pytest.param("bob@[010.0.0.1]", ["bob@[10.0.0.1]", "bob@[8.0.0.1]"], id="zeros"),
        pytest.param('bob@"example.com"', ['bob@"example.com"', "bob@example.com"], id="quotes"),
        pytest.param("bob", ["bob@xn--strae-oqa.example", "bob@strasse.example"], id="the origin"),
        pytest.param('bob@" "', ["bob@xn--strae-oqa.example", "bob@strasse.example"], id="a blank domain"),
        pytest.param(
            "bob@" + 600 * " ", ["bob@xn--strae-oqa.example", "bob@strasse.example"], id="a long blank domain"
        ),
        pytest.param("bob@-x-", ["bob@-x-"], id="no domain at all"),
    ],
)
def test_address_has_a_second_form_where_postfix_takes_it_for_another(sent, forms):
    """First as it is written, for that may be managed, too; then as Postfix delivers it."""
    assert [str(form) for form in address_forms(sent, "straße.example")] == forms


@given(texts, st.sampled_from(["", "straße.example"]), st.sampled_from(["", "+", "=-"]))
def test_first_form_is_the_normal_one_and_a_second_differs_in_its_domain_only(text, origin, delimiters):
    """What is found by the second is found with the same local part."""
    first, *others = address_forms(text, origin, delimiters)
    assert first == split_address(text, origin, delimiters)
    for other in others:
        assert other.domain != first.domain
        assert first._replace(domain=other.domain) == other
        assert normal_domain(other.domain) == other.domain


@given(st.one_of(domains, texts.filter(lambda text: "@" not in text and has_domain(f"bob@{text}"))))
@example("192.0.2.1")
@example("example.c0")
@example("example.c0m")
@example("-x.example")
@example("x-.example")
@example("x_y.example.")
@example("a" * 63 + ".example")
@example("a" * 64 + ".example")
@example("a." * 126 + "a")
@example("a." * 126 + "aa")
def test_forms_are_in_the_domain_as_it_is_written_and_as_postfix_takes_it(text):
    """Whether a domain is plain or odd, it is found by the same two names."""
    first, *others = address_forms(f"bob@{text}")
    assert first.domain == (taken(normal_domain, text) or first.domain)
    assert [first.domain, *(other.domain for other in others)][-1] == (domain_for_postfix(text) or first.domain)


@given(domains)
def test_u_label_and_a_label_meet(domain):
    """A domain blocked as Bücher.example is blocked when the client writes xn--bcher-kva.example."""
    a_labels = taken(normal_domain, domain)
    assume(a_labels is not None)
    u_labels = ".".join(idna.ulabel(label) for label in a_labels.split("."))
    assert normal_domain(u_labels) == normal_domain(a_labels.upper()) == a_labels


@given(st.one_of(domains, texts))
@example("İ.example")
@example("a" * 506)
@example("ẞ" * 300)
def test_normalising_a_domain_twice_changes_nothing_and_only_one_error_is_raised(text):
    """What policyd printed can be typed again; what it can't take, it says in one line."""
    normal = taken(normal_domain, text)
    if normal is not None:
        assert normal_domain(normal) == normal
        assert normal.isascii()


# --- Addresses from Postfix


@pytest.mark.parametrize(
    ("sent", "local", "domain"),
    [
        pytest.param("Alice@Example.COM", "alice", "example.com", id="case"),
        pytest.param("alice@example.com.", "alice", "example.com", id="a trailing dot"),
        pytest.param("a@b@example.com", "a@b", "example.com", id="split at the last at sign"),
        pytest.param("john doe@example.com", "john doe", "example.com", id="a blank"),
        pytest.param('"a"@example.com', '"a"', "example.com", id="quotes are part of the internal form"),
        pytest.param("prvs=12=a@example.com", "prvs=12=a", "example.com", id="equals signs"),
        pytest.param("alice", "alice", "", id="no domain"),
        pytest.param("alice@", "alice", "", id="an empty domain"),
        pytest.param("@example.com", "", "example.com", id="no local part"),
        pytest.param("@", "", "", id="an at sign alone"),
        pytest.param("", "", "", id="nothing"),
        pytest.param("\udcff@example.com", "", "example.com", id="a local part that is not UTF-8"),
        pytest.param("\udcff", "", "", id="not UTF-8 and no domain"),
        pytest.param("a@\udcff.Example", "a", "?.example", id="a domain that is not UTF-8"),
        pytest.param("a@-X-.example", "a", "-x-.example", id="a domain that can't be"),
        pytest.param("a@[192.0.2.1]", "a", "[192.0.2.1]", id="an address literal"),
    ],
)
def test_address_from_postfix_is_split_and_normal(sent, local, domain):
    """Case, IDN and odd local parts are no way around an entry."""
    assert split_address(sent) == EmailAddress(local, domain)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param("alice", "alice@example.org", id="no domain"),
        pytest.param("alice@", "alice@example.org", id="an empty domain"),
        pytest.param("alice@example.com", "alice@example.com", id="a domain of its own"),
        pytest.param("a@b@", "a@b@example.org", id="an at sign in the local part"),
    ],
)
def test_origin_stands_for_a_missing_domain_only(sent, expected):
    """Mail to `alice` goes where Postfix would send it."""
    assert str(split_address(sent, "example.org")) == expected


@given(texts)
@example("a@b@")
@example("x@" + "Σ" * 600)
def test_no_address_from_the_network_raises_and_normalising_twice_changes_nothing(text):
    """No sender can stop the daemon, and what is shown of an address is the address."""
    address = split_address(text)
    assert split_address(str(address)) == address
    str(address).encode()  # holds no lone surrogate: any log and terminal can take it


@given(texts)
def test_an_impossible_domain_equals_no_possible_one(text):
    """A domain that can't be entered can't be taken for one that was."""
    assume(text and "@" not in text)
    if taken(normal_domain, text) is None:
        assert taken(normal_domain, split_address(f"x@{text}").domain) is None


@pytest.mark.parametrize(
    ("sent", "delimiters", "local", "base"),
    [
        pytest.param("kim+x", "+", "kim+x", "kim", id="an extension"),
        pytest.param("kim", "+", "kim", "", id="none"),
        pytest.param("KIM+\udcff", "+", "", "kim", id="an extension that is not UTF-8"),
        pytest.param("kim+\udcc3\udca9\udc80x", "+", "", "kim", id="one that begins as UTF-8"),
        pytest.param("\udcffkim+x", "+", "", "", id="a base that is not UTF-8"),
        pytest.param("kim\udcff", "+", "", "", id="no extension, and not UTF-8"),
        pytest.param("kim+" + "x" * 3000, "+", "", "kim", id="an extension that is too long"),
        pytest.param("k" * 3000 + "+x", "+", "", "", id="a base that is too long"),
        pytest.param("kim=\u0338x", "=", "kim\u2260x", "kim", id="a mark that would swallow the delimiter"),
        pytest.param("kim<\u0338", "<", "kim\u226e", "kim", id="another"),
        pytest.param("kim+\u0301x", "+", "kim+\u0301x", "kim", id="a mark that changes nothing"),
        pytest.param("kim\u037ex", ";", "kim;x", "", id="a sign that is a delimiter only once it is normal"),
        pytest.param("ki\u0307m+x", "+", "ki\u0307m+x", "ki\u0307m", id="a mark in the base"),
        pytest.param("list-requeſt", "-", "list-request", "list", id="almost the name of a request address"),
        pytest.param("LIST-Request", "-", "list-request", "", id="a request address in any case"),
        pytest.param("Owner-list", "-", "owner-list", "", id="an owner in any case"),
        pytest.param("Mailer-Daemon", "-", "mailer-daemon", "", id="a name of Postfix in any case"),
        pytest.param("owner-\udcff", "-", "", "", id="an owner of no UTF-8 list"),
        pytest.param("postmaster+\udcff", "+", "", "postmaster", id="the postmaster, with any extension"),
    ],
)
def test_extension_is_split_off_before_anything_else(sent, delimiters, local, base):
    """Postfix splits bytes and delivers to the base, whatever follows; what follows must change nobody's rule."""
    address = split_address(f"{sent}@example.com", delimiters=delimiters)
    assert address == EmailAddress(local, "example.com", base)
    assert address.locals == tuple(each for each in (local, base) if each)


@given(st.text(min_size=1, max_size=8), st.binary(max_size=20), st.sampled_from("+-=<;!"))
def test_no_extension_changes_the_base(base, extension, delimiter):
    """Of all that can stand behind a delimiter, nothing raises and nothing leads elsewhere."""
    assume(delimiter not in base and "@" not in base)
    assume(split_extension(f"{base}{delimiter}", delimiter)[1] is not None)
    text = extension.decode("utf-8", "surrogateescape")
    assume("@" not in text and split_extension(f"{base}{delimiter}{text}", delimiter)[1] is not None)
    address = split_address(f"{base}{delimiter}{text}@example.com", delimiters=delimiter)
    assert address.base == fold(base)
    assert address.locals[-1] == fold(base)
    str(address).encode()


# --- Addresses from people


@pytest.mark.parametrize(
    ("typed", "local", "domain"),
    [
        pytest.param("Alice@Example.com", "alice", "example.com", id="plain"),
        pytest.param('"john doe"@example.com', "john doe", "example.com", id="quoted"),
        pytest.param('"a@b"@example.com', "a@b", "example.com", id="a quoted at sign"),
        pytest.param(r'"a\"b\\c"@example.com', r'a"b\c', "example.com", id="quoted pairs"),
        pytest.param(r'"\"a\""@example.com', '"a"', "example.com", id="quotes inside quotes"),
        pytest.param("a" * 1024 + "@example.com", "a" * 1024, "example.com", id="1024 characters"),
        pytest.param("alice@[192.0.2.1]", "alice", "[192.0.2.1]", id="an address literal"),
    ],
)
def test_typed_address_is_the_one_that_postfix_sends(typed, local, domain):
    """The administrator quotes as in a mail header, and only where that is needed."""
    assert parse_address(typed) == EmailAddress(local, domain) == split_address(str(EmailAddress(local, domain)))


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        pytest.param("alice", "'alice' is not an address; an address looks like alice@example.com", id="a name"),
        pytest.param("alice@", "'alice@' is not an address; an address looks like alice@example.com", id="no domain"),
        pytest.param("@a.b", "'@a.b' is not an address; an address looks like alice@example.com", id="no local part"),
        pytest.param(
            '""@a.b', "'\"\"' is not the local part of an address; it has 1 to 1024 characters", id="empty quotes"
        ),
        pytest.param(
            "a" * 1025 + "@a.b",
            f"'{'a' * 100}' is not the local part of an address; it has 1 to 1024 characters",
            id="1025 characters",
        ),
        pytest.param(
            "ß" * 513 + "@a.b",
            f"'{SHARP_S * 100}' is not the local part of an address; it has 1 to 1024 characters",
            id="1026 characters once it is folded",
        ),
        pytest.param("a\tb@a.b", r"the local part 'a\tb' holds a control character; type it without", id="a tab"),
        pytest.param(
            "a\udcff@a.b", r"the local part 'a\udcff' holds a control character; type it without", id="not UTF-8"
        ),
        pytest.param(
            "a b@x.example",
            "a b@x.example is several addresses in one word; type each as a word of its own, a single one in quotes: "
            '"a b"@x.example',
            id="a blank",
        ),
        *(
            pytest.param(
                f"a@x.example{separator}b@x.example",
                f"a@x.example{separator}b@x.example is several addresses in one word; type each as a word of its own, "
                f'a single one in quotes: "a@x.example{separator}b"@x.example',
                id=f"two, with {separator!r} between",
            )
            for separator in (" ", ",", ";", ", ")
        ),
        *(
            pytest.param(
                f"{scheme}a@x.example",
                f"{scheme}a@x.example: type it without {scheme} in front",
                id=f"{scheme} in front",
            )
            for scheme in ("SMTP:", "smtp:", "mailto:")
        ),
        pytest.param("<a@x.example>", "<a@x.example>: type it without < and >", id="in angle brackets"),
        pytest.param(
            "a\u200b@a.b", rf"'a\u200b@a.b' {UNSEEN}; type it anew, or in quotes", id="a letter that nobody sees"
        ),
        pytest.param(
            "a\ufffd@a.b", rf"'a\ufffd@a.b' {UNSEEN}; type it anew, or in quotes", id="a letter that was lost"
        ),
        *(
            pytest.param(
                f"{local}@x.example",
                f"{local}@x.example: no * or ? stands for other characters; for every address in the domain write "
                f'@x.example; for this one "{local}"@x.example',
                id=f"{local} as a wildcard",
            )
            for local in ("*", "a*", "a?b")
        ),
        pytest.param(
            "a@*.x.example",
            "'*.x.example': no * or ? stands for other characters; for every subdomain write @.x.example",
            id="a wildcard for the subdomains",
        ),
        pytest.param("a@x.*", "'x.*': no * or ? stands for other characters", id="a wildcard in the domain"),
        *(
            pytest.param(
                f"{local}@x.example",
                f"{local}@x.example is not an address as it stands; its local part needs quotes: {quoted}@x.example",
                id=f"{local}, which only quotes allow",
            )
            for local, quoted in (
                ("a..b", '"a..b"'),
                (".a", '".a"'),
                ("a.", '"a."'),
                ("a@b", '"a@b"'),
                ('"', r'"\""'),
                (r"a\b", r'"a\\b"'),
                ("a(b)", '"a(b)"'),
                ("a[b]", '"a[b]"'),
                ("a:b", '"a:b"'),
            )
        ),
        pytest.param("a@b c", "'b c' is not a domain; a domain looks like example.com", id="no domain name"),
    ],
)
def test_what_is_no_address_is_refused_with_an_example(typed, problem):
    """An entry that could never match is refused, not stored."""
    assert raised_by(parse_address, typed) == problem


@given(texts)
@example("ß" * 1024 + "@a.b")
@example("ŉ" * 1024 + "@a.b")
def test_normalising_a_typed_address_twice_changes_nothing_and_only_one_error_is_raised(text):
    """What a message tells to type is taken for the same address."""
    address = taken(parse_address, text)
    if address is not None:
        assert split_address(str(address)) == address
        assert parse_address(quote_local_part(str(address))) == address


@pytest.mark.parametrize(
    ("kept", "typed"),
    [
        pytest.param("alice@example.com", "alice@example.com", id="a plain address"),
        pytest.param("a.b.c@example.com", "a.b.c@example.com", id="single dots"),
        pytest.param("/g=joe/s=doe@example.com", "/g=joe/s=doe@example.com", id="X.400"),
        pytest.param("john doe@example.com", '"john doe"@example.com', id="a blank"),
        pytest.param("john\u3000doe@example.com", '"john\u3000doe"@example.com', id="a blank of another script"),
        pytest.param("a..b@example.com", '"a..b"@example.com', id="two dots"),
        pytest.param("a.@example.com", '"a."@example.com', id="a dot at the end"),
        pytest.param("a@b@example.com", '"a@b"@example.com', id="an at sign"),
        pytest.param('a"\\b@example.com', '"a\\"\\\\b"@example.com', id="a quote and a backslash"),
        pytest.param("john doe@", '"john doe"@', id="a pattern without a domain"),
        pytest.param("@example.com", "@example.com", id="a pattern without a local part"),
        pytest.param("<>", "<>", id="the null sender"),
    ],
)
def test_local_part_is_quoted_where_a_person_would_have_to(kept, typed):
    """The form of RFC 5321 §4.1.2 can be typed and imported again; what needs no quotes is read without them."""
    assert quote_local_part(kept) == typed
    assert normal_pattern(typed) == kept


@given(texts)
def test_quoted_address_is_read_as_the_same_address(text):
    """An export, and the check of a row, give back what is in the tables."""
    address = taken(parse_address, f"{text}@example.com")
    if address is not None:
        assert parse_address(quote_local_part(str(address))) == address
        assert parse_address(quote_local_part(str(address), not_first="#|/{-")) == address


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\x1b[31m", "a\x7f", "a\x85", "a\u2028b", "a\u2029b", "a\u202eb", "a\u2066b", "a\u061cb", "\udc80"],
    ids=ascii,
)
def test_text_that_could_forge_a_line_is_refused(text):
    """No reason or name breaks a log line, a reply or a terminal."""
    assert raised_by(normal_text, text, "the reason") == (
        f"the reason {text!a} holds a control character; type it without"
    )


def test_long_forbidden_text_is_shown_in_part():
    """The error stays one readable line."""
    assert raised_by(normal_text, "\n" + "x" * 90, "the reason") == (
        rf"the reason '\n{'x' * 79}\u2026' holds a control character; type it without"
    )


@given(texts)
def test_checked_text_is_printable_anywhere_and_stays_as_it_is(text):
    """Umlauts and every script stay; checking twice changes nothing."""
    checked = taken(partial(normal_text, what="the reason"), text)
    if checked is not None:
        assert normal_text(checked, "the reason") == checked == unicodedata.normalize("NFC", text)


# --- Patterns


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        pytest.param("Alice@Example.com", "alice@example.com", id="an address"),
        pytest.param('"John Doe"@example.com', "john doe@example.com", id="a quoted address"),
        pytest.param("@BÜCHER.example.", "@xn--bcher-kva.example", id="a domain"),
        pytest.param("@.BÜCHER.example", "@.xn--bcher-kva.example", id="the subdomains of a domain"),
        pytest.param("@.com", "@.com", id="a top-level domain's subdomains"),
        pytest.param("Alice@", "alice@", id="a local part"),
        pytest.param('"a@b"@', "a@b@", id="a local part with an at sign"),
        pytest.param("@[192.0.2.1]", "@[192.0.2.1]", id="an address literal"),
        pytest.param("<>", "<>", id="the null sender"),
    ],
)
def test_pattern_has_one_form(typed, normal):
    """An entry is found again however it is typed."""
    assert normal_pattern(typed) == normal
    assert normal_pattern(quote_local_part(normal)) == normal
    assert is_pattern(typed)


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        pytest.param("alice", f"'alice' {PATTERN}", id="a name"),
        pytest.param("", f"'' {PATTERN}", id="nothing"),
        pytest.param("@", f"'@' {PATTERN}", id="an at sign alone"),
        pytest.param(
            "<>@", '<>@ is not an address as it stands; its local part needs quotes: "<>"@', id="angle brackets"
        ),
        pytest.param("@.", "'' is not a domain; a domain looks like example.com", id="subdomains of nothing"),
        pytest.param("@..com", "'.com' is not a domain; a domain looks like example.com", id="two dots"),
        pytest.param(
            "@.[192.0.2.1]",
            "@.[192.0.2.1]: an address literal has no subdomains; for the literal itself: @[192.0.2.1]",
            id="subdomains of a literal",
        ),
        pytest.param(
            '""@', "'\"\"' is not the local part of an address; it has 1 to 1024 characters", id="an empty local part"
        ),
        pytest.param(
            "*@",
            '*@: no * or ? stands for other characters; for everybody write anyone; for this one "*"@',
            id="an asterisk meant as anybody",
        ),
        pytest.param(
            "@*.example.com",
            "'*.example.com': no * or ? stands for other characters; for every subdomain write @.example.com",
            id="an asterisk meant as any subdomain",
        ),
    ],
)
def test_pattern_that_nothing_can_match_is_refused(typed, problem):
    """An entry that would silently do nothing is told at once."""
    assert raised_by(normal_pattern, typed) == problem


@given(texts)
def test_normalising_a_pattern_twice_changes_nothing_and_only_one_error_is_raised(text):
    """What `sender list` prints can be given to `sender unblock`."""
    pattern = taken(normal_pattern, text)
    if pattern is not None:
        assert is_pattern(pattern)
        assert normal_pattern(quote_local_part(pattern)) == pattern


@pytest.mark.parametrize(
    ("address", "patterns"),
    [
        pytest.param(
            "Alice@mail.example.com",
            ["alice@mail.example.com", "alice@", "@mail.example.com", "@.example.com", "@.com"],
            id="an address, its local part, its domain, the domains above",
        ),
        pytest.param(
            "alice+news@example.com",
            ["alice+news@example.com", "alice@example.com", "alice+news@", "alice@", "@example.com", "@.com"],
            id="with the extension first, then without",
        ),
        pytest.param("alice", [], id="no domain"),
        pytest.param("", [], id="nothing"),
        pytest.param("@example.com", ["@example.com", "@.com"], id="no local part"),
        pytest.param("\udcff@example.com", ["@example.com", "@.com"], id="a local part that is not UTF-8"),
        pytest.param("a@[192.0.2.1]", ["a@[192.0.2.1]", "a@", "@[192.0.2.1]"], id="a literal has no subdomains"),
        pytest.param("a@com", ["a@com", "a@", "@com"], id="a top-level domain is in none"),
        pytest.param("a@b@c", ["a@b@c", "a@b@", "@c"], id="an at sign in the local part"),
    ],
)
def test_address_is_matched_by_these_patterns_the_most_specific_first(address, patterns):
    """An administrator can tell from the table in docs/rules.rst what an entry hits."""
    assert list(matching_patterns(split_address(address, delimiters="+"))) == patterns


@pytest.mark.parametrize(
    ("pattern", "address", "matches"),
    [
        pytest.param("bob@x.example", "jimbob@x.example", False, id="the end of another local part"),
        pytest.param("bob@x.example", "bob@x.example.org", False, id="the beginning of another domain"),
        pytest.param("bob+a@x.example", "bob@x.example", False, id="an extension that is not there"),
        pytest.param("bob+a@x.example", "bob+a@x.example", True, id="an extension that is there"),
        pytest.param("bob+a@x.example", "bob+a+b@x.example", False, id="an extension that begins so"),
        pytest.param("@x.example", "bob@mail.x.example", False, id="a domain is not its subdomains"),
        pytest.param("@.x.example", "bob@x.example", False, id="subdomains are not the domain"),
        pytest.param("@.x.example", "bob@a.b.x.example", True, id="subdomains at any depth"),
        pytest.param("@.x.example", "bob@mailx.example", False, id="a domain that ends so without a dot"),
        pytest.param("bob@", "bob+a@any.example", True, id="a local part with its extensions in any domain"),
        pytest.param("<>", "<>@x.example", False, id="the null sender is no local part"),
    ],
)
def test_pattern_matches_no_more_than_it_says(pattern, address, matches):
    """A near miss must neither stop mail nor let it through."""
    assert (pattern in matching_patterns(split_address(address, delimiters="+"))) is matches


@given(texts, st.sampled_from(["", "+", "+-", "-_="]))
def test_matching_patterns_never_raise_and_are_few(text, delimiters):
    """No sender makes a request dear: there are as many patterns as a domain has labels, and some."""
    address = split_address(text, delimiters=delimiters)
    patterns = matching_patterns(address)
    assert len(patterns) <= 5 + min(address.domain.count("."), 253)
    assert bool(patterns) == bool(address.domain)


@given(st.text("abc+@ ", min_size=1, max_size=8), domains, st.sampled_from(["", "+"]))
def test_every_pattern_that_matches_can_be_entered(local, domain, delimiters):
    """Whatever hits an address can be typed, in quotes where it needs them, and is stored in just that form."""
    normal = taken(normal_domain, domain)
    assume(normal is not None)
    for pattern in matching_patterns(split_address(f"{local}@{normal}", delimiters=delimiters)):
        assert normal_pattern(quote_local_part(pattern)) == pattern


def test_an_endless_domain_has_no_endless_patterns():
    """A hostile domain of thousands of labels is looked up as one."""
    domain = "a." * 5000 + "b"
    assert matching_patterns(split_address(f"x@{domain}", delimiters="+")) == (f"x@{domain}", "x@")


@pytest.mark.parametrize(
    ("pattern", "domain"),
    [("a@b.c", "b.c"), ("@b.c", "b.c"), ("@.b.c", ""), ("a@", ""), ("<>", ""), ("a@b@", "")],
)
def test_domain_of_a_pattern_is_known_where_there_is_one(pattern, domain):
    """A pattern in a domain that is not managed can be refused where it would do nothing."""
    assert pattern_domain(pattern) == domain


def test_patterns_rank_from_the_narrowest_to_the_widest():
    """Of several entries the refusal names the one that means this sender most."""
    ordered = ["alice@b.example.com", "alice@", "@b.example.com", "@.b.example.com", "@.example.com", "@.com"]
    widest_first = ordered[::-1]
    assert sorted(widest_first, key=pattern_rank) == ordered
    assert pattern_rank(NULL_SENDER) == pattern_rank("a@b") == pattern_rank("a@b@c") == (0, 0)
    assert pattern_rank("a@b@") == pattern_rank("a@")


@pytest.mark.parametrize(("text", "is_one"), [("a@b", True), ("@b", True), ("<>", True), ("alice", False), ("", False)])
def test_pattern_and_mailbox_name_cant_be_confused(text, is_one):
    """`sender block NAME` means the mailbox, `sender block x@y` the address."""
    assert is_pattern(text) is is_one


# --- Extensions


@pytest.mark.parametrize(
    ("local", "delimiters", "base", "extension"),
    [
        pytest.param("alice+news", "+", "alice", "news", id="an extension"),
        pytest.param("alice", "+", "alice", None, id="no delimiter"),
        pytest.param("alice+", "+", "alice", "", id="an empty extension"),
        pytest.param("alice+a+b", "+", "alice", "a+b", id="the first delimiter splits"),
        pytest.param("alice-a+b", "+-", "alice", "a+b", id="the first of a set, in the address"),
        pytest.param("alice+a-b", "-+", "alice", "a-b", id="the first in the address, not in the set"),
        pytest.param("alice+news", "", "alice+news", None, id="no delimiter is set"),
        pytest.param("alice+news", "-", "alice+news", None, id="another delimiter is set"),
        pytest.param("+news", "+", "+news", None, id="not at the beginning"),
        pytest.param("+a+b", "+", "+a+b", None, id="not later either if one is at the beginning"),
        pytest.param("-a+b", "+-", "-a+b", None, id="not later if another is at the beginning"),
        pytest.param("postmaster", "p", "postmaster", None, id="postmaster stays whole"),
        pytest.param("mailer-daemon", "-", "mailer-daemon", None, id="mailer-daemon stays whole"),
        pytest.param("double-bounce", "-", "double-bounce", None, id="double-bounce stays whole"),
        pytest.param("postmaster+x", "+", "postmaster", "x", id="postmaster with an extension"),
        pytest.param("double-bounce-x", "-", "double", "bounce-x", id="only the whole name is Postfix's"),
        pytest.param("owner-list", "-", "owner-list", None, id="a list's owner stays whole"),
        pytest.param("list-request", "-", "list-request", None, id="a list's request address stays whole"),
        pytest.param("owner-list+x", "+-", "owner-list+x", None, id="whole, also at another delimiter"),
        pytest.param("owner-list+x", "+", "owner-list", "x", id="without - in the set an owner is like others"),
        pytest.param("a+b-request", "+", "a", "b-request", id="without - in the set a request is like others"),
        pytest.param("-request", "-", "-request", None, id="a request of no list"),
        pytest.param("a-requests", "-", "a", "requests", id="almost a request address"),
        pytest.param("owners-a", "-", "owners", "a", id="almost an owner"),
        pytest.param("", "+", "", None, id="nothing"),
    ],
)
def test_extension_is_split_as_postfix_does(local, delimiters, base, extension):
    """policyd and Postfix must mean the same mailbox."""
    assert split_extension(local, delimiters) == (base, extension)


@given(texts, st.text("+-_=!", max_size=3))
def test_no_part_of_an_address_gets_lost_at_the_delimiter(text, delimiters):
    """Nothing is split but at one delimiter, and never to an empty name."""
    base, extension = split_extension(text, delimiters)
    if extension is None:
        assert base == text
    else:
        assert base
        assert text in {f"{base}{each}{extension}" for each in delimiters}
        assert not set(base) & set(delimiters)


# --- IMCEA


@pytest.mark.parametrize(
    ("local", "name"),
    [
        pytest.param("IMCEAEX-_O=ORG_OU=SITE_CN=RECIPIENTS_CN=JDOE", "jdoe", id="a distinguished name"),
        pytest.param("imceaex-_o=org_ou=site_cn=recipients_cn=jdoe", "jdoe", id="lower case"),
        pytest.param("IMCEAEX-_CN=JDOE", "jdoe", id="one CN"),
        pytest.param("IMCEAEX-_CN=JDOE_OU=X", "jdoe", id="the last CN, though not the last of all"),
        pytest.param("IMCEAEX-_CN=J+2EDOE", "j.doe", id="an encoded dot"),
        pytest.param("IMCEAEX-_CN=J+5fDOE", "j_doe", id="an encoded underscore is part of the name"),
        pytest.param("IMCEAEX-_CN=J+2FCN+3DX", "j/cn=x", id="an encoded slash begins no new component"),
        pytest.param("IMCEAEX-_CN=J+20DOE", "j doe", id="an encoded blank"),
        pytest.param("IMCEAEX-_CN=M+C3+9CLLER", "müller", id="encoded UTF-8, compared without case"),
        pytest.param("IMCEAEX-_CN=A=B", "a=b", id="an equals sign in the name"),
        pytest.param("IMCEAEX-_CN=A_CN=", "", id="an empty last CN"),
        pytest.param("IMCEAEX-_O=ORG", "", id="no CN"),
        pytest.param("IMCEAEX-CN=JDOE", "", id="no slash in front"),
        pytest.param("IMCEAEX-x_CN=JDOE", "", id="something before the slash"),
        pytest.param("IMCEAEX-", "", id="nothing encoded"),
        pytest.param("IMCEAEX-_CN=J+2", "", id="half a byte"),
        pytest.param("IMCEAEX-_CN=J+GG", "", id="no hexadecimal byte"),
        pytest.param("IMCEAEX-_CN=J.DOE", "", id="a dot that had to be encoded"),
        pytest.param("IMCEAEX-_CN=JÜ", "", id="a letter that had to be encoded"),
        pytest.param("IMCEAEX-_CN=J+FF", "", id="bytes that are not UTF-8"),
        pytest.param("IMCEAEX-_CN=JDOE@inner", "", id="an at sign that had to be encoded"),
        pytest.param("IMCEAEX-_CN=JDOE\n", "", id="a line break at the end"),
        pytest.param("IMCEASMTP-_CN=JDOE", "", id="a name in another type"),
        pytest.param("IMCEAX400-_CN=JDOE", "", id="a type that names nobody"),
    ],
)
def test_exchange_name_is_the_last_cn(local, name):
    """The old back door to a restricted mailbox leads to the mailbox, and so to its restriction."""
    encapsulated = decode_imcea(fold(local))
    assert encapsulated is not None
    assert encapsulated.common_name == name


@pytest.mark.parametrize(
    ("local", "address"),
    [
        pytest.param("IMCEASMTP-user+40dom+2Ecom", "user@dom.com", id="an address"),
        pytest.param("IMCEASMTP-a+2Bb+40dom+2Ecom", "a+b@dom.com", id="with an extension"),
        pytest.param("IMCEASMTP-a_b+40dom+2Ecom", "a/b@dom.com", id="an underscore is a slash"),
        pytest.param("IMCEASMTP-a+5Fb+40dom+2Ecom", "a_b@dom.com", id="an encoded underscore"),
        pytest.param("IMCEASMTP-user", "user", id="no domain inside"),
        pytest.param("IMCEASMTP-", "", id="nothing inside"),
        pytest.param("IMCEASMTP-user+4", "", id="half a byte"),
        pytest.param("IMCEASMTP-user+2B+FF+40dom+2Ecom", "user+\udcff@dom.com", id="an extension that is not UTF-8"),
        pytest.param("IMCEASMTP-user@dom", "", id="an at sign that had to be encoded"),
        pytest.param("IMCEAEX-_CN=user+40dom+2Ecom", "", id="an address in another type"),
    ],
)
def test_encapsulated_address_is_the_one_inside(local, address):
    """Wrapping an address does not take it out of its mailbox's rule."""
    encapsulated = decode_imcea(fold(local))
    assert encapsulated is not None
    assert encapsulated.smtp_address == address


@pytest.mark.parametrize(
    "local",
    ["", "alice", "imcea", "imcea-x", "imceaex", "imceaninechars-x", "ximceaex-_cn=a", "imceaé-x", "imceaex+_cn=a"],
)
def test_other_local_parts_encapsulate_nothing(local):
    """A mailbox whose name begins alike is a mailbox."""
    assert decode_imcea(local) is None


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_encoded_pieces_are_decoded_to_what_they_were(pieces):
    """Whatever Exchange can name, policyd can tell."""
    encoded = "_".join("".join(f"+{byte:02X}" for byte in piece.encode()) for piece in pieces)
    assert decode_imcea(fold(f"IMCEAX400-{encoded}")) == Encapsulated("x400", tuple(pieces))


@given(st.one_of(texts, texts.map("imceaex-_cn={}".format), st.text("_+=4feg-", max_size=20).map("imceasmtp-".__add__)))
def test_no_local_part_breaks_the_decoder(text):
    """A malformed encapsulation is an unlisted address, not a broken daemon."""
    encapsulated = decode_imcea(text)
    if encapsulated is not None:
        assert encapsulated.common_name == fold(encapsulated.common_name)
        assert not (encapsulated.common_name and encapsulated.smtp_address)


# --- BATV, realms


@pytest.mark.parametrize(
    ("sent", "without"),
    [
        pytest.param("prvs=1234abcdef=bob@example.com", "bob@example.com", id="a tag"),
        pytest.param("PRVS=x=Bob+a@Example.com", "Bob+a@Example.com", id="in any case"),
        pytest.param("prvs=x=bob", "bob", id="without a domain"),
        pytest.param("prvs=x=a=b@example.com", "a=b@example.com", id="an equals sign of the address's own"),
        pytest.param("prvs=x=prvs=y=bob@example.com", "prvs=y=bob@example.com", id="one tag only"),
        pytest.param("prvs=\udcff=\udcfe@example.com", "\udcfe@example.com", id="not UTF-8"),
        pytest.param("prvs=x=bob@prvs=y=z", "bob@prvs=y=z", id="the local part's only"),
        pytest.param("bob@prvs=y=z", "", id="not the domain's"),
        pytest.param("prvs=x=@example.com", "", id="nothing behind the tag"),
        pytest.param("prvs==bob@example.com", "", id="an empty tag"),
        pytest.param("prvs=bob@example.com", "", id="no tag"),
        pytest.param("xprvs=x=bob@example.com", "", id="something in front"),
        pytest.param("", "", id="the null sender"),
    ],
)
def test_batv_tag_is_taken_off(sent, without):
    """Bounces to a sender who signs with BATV, and mail from one, are to and from the address behind the tag."""
    assert without_batv(sent) == without


@pytest.mark.parametrize(
    ("text", "says_so"),
    [("a@b", True), ("a@b@c", True), ("a", False), ("a@", False), ('a@"" ', False), ("a@b@", False), ("", False)],
)
def test_address_says_in_which_domain_it_is(text, says_so):
    """Otherwise the origin is added."""
    assert has_domain(text) is says_so
    assert (split_address(text, origin="origin.example").domain == "origin.example") is not says_so


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("EXAMPLE", "example"),
        ("example.local", "EXAMPLE.LOCAL."),
        ("bücher.example", "XN--BCHER-KVA.example"),
        ("BÜRO 1", "büro 1"),
        ("\udcff", "\udcff"),
    ],
)
def test_realms_are_compared_without_case(one, other):
    """As directories spell them one way and logins another."""
    assert normal_realm(one) == normal_realm(other)
    assert normal_realm(normal_realm(one)) == normal_realm(one)


# --- Names of mailboxes


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        pytest.param("Alice", "Alice", id="kept as it was typed"),
        pytest.param("Mu\u0308ller", "Müller", id="composed"),
        pytest.param("a" * 256, "a" * 256, id="256 characters"),
        pytest.param("Doe, John (sales)", "Doe, John (sales)", id="punctuation"),
        pytest.param("<", "<", id="half a null sender"),
    ],
)
def test_mailbox_name_is_kept_as_it_was_typed(typed, name):
    """Lists show the name as the administrator writes it."""
    assert normal_name(typed) == name


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        pytest.param("", f"'' can't name a mailbox; {NAME}", id="nothing"),
        pytest.param(" ", f"' ' can't name a mailbox; {NAME}", id="a blank"),
        pytest.param("a ", f"'a ' can't name a mailbox; {NAME}", id="a blank behind"),
        pytest.param("a" * 257, f"'{'a' * 100}' can't name a mailbox; {NAME}", id="257 characters"),
        pytest.param("a\n", r"the mailbox name 'a\n' holds a control character; type it without", id="a line break"),
        pytest.param(
            "a@b",
            "a@b is an address or a pattern, not a mailbox name; a name has no @ and isn't <>",
            id="an at sign",
        ),
        pytest.param(
            "<>",
            "<> is an address or a pattern, not a mailbox name; a name has no @ and isn't <>",
            id="the null sender",
        ),
        pytest.param(
            "Outside", "Outside can't name a mailbox; --to outside has a meaning of its own", id="a word of --to"
        ),
        pytest.param("ANYONE", "ANYONE can't name a mailbox; --to anyone has a meaning of its own", id="the other"),
        pytest.param(
            "Group:staff", "Group:staff can't name a mailbox; what begins with group: is a group", id="a group's prefix"
        ),
        *(
            pytest.param(typed, rf"'{shown}' can't name a mailbox; it {UNSEEN}: type it anew", id=shown)
            for typed, shown in (("bob\u200b", r"bob\u200b"), ("\ufeffbob", r"\ufeffbob"), ("b\ufffdb", r"b\ufffdb"))
        ),
    ],
)
def test_what_cant_name_a_mailbox_is_refused_with_the_rule(typed, problem):
    """A name must not be taken for a pattern, nor for `--to outside`."""
    assert raised_by(normal_name, typed) == problem


@given(texts)
def test_normalising_a_name_twice_changes_nothing_and_only_one_error_is_raised(text):
    """What `mailbox list` prints can be given to any command."""
    name = taken(normal_name, text)
    if name is not None:
        assert normal_name(name) == name
        assert not is_pattern(name)


@pytest.mark.parametrize(
    ("address", "has_domain", "name"),
    [
        pytest.param("alice@example.com", False, "alice", id="the local part"),
        pytest.param("alice@example.com", True, "alice (example.com)", id="with the domain where that is taken"),
        pytest.param("outside@example.com", False, "outside (example.com)", id="a word with a meaning of its own"),
        pytest.param("a@b@example.com", False, "a b (example.com)", id="a local part that holds an @"),
        pytest.param("group:all@example.com", False, "group-all (example.com)", id="what would be a group"),
    ],
)
def test_mailbox_known_by_an_address_alone_gets_a_name(address, has_domain, name):
    """Lists and maps have no names; what is made of them must still be typed and told apart."""
    assert name_after(address, has_domain=has_domain) == name
    assert normal_name(name) == name


@pytest.mark.parametrize(
    ("typed", "normal"),
    [("2001:DB8:0::1", "2001:db8::1"), ("192.0.2.7", "192.0.2.7"), ("unknown", "unknown"), ("", "")],
)
def test_client_is_an_address_or_what_postfix_says_without_one(typed, normal):
    """An address typed in another form is the one in the log."""
    assert normal_client(typed) == normal


def test_client_that_is_no_address_is_refused_with_what_one_looks_like():
    """A name would be nobody's address, and so an outsider's."""
    with pytest.raises(AddressError, match=r"'mx\.example\.net' is not an IP address"):
        normal_client("mx.example.net")


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("alice@Example.COM", "alice@Example.COM"),
        ('"john doe"@example.com', "john doe@example.com"),
        ('"a@b"@example.com.', "a@b@example.com."),
    ],
)
def test_address_as_postfix_sends_it_has_no_quotes(typed, sent):
    """What a person types with quotes, as RFC 5321 has it, comes over the wire without."""
    assert internal_address(typed) == sent


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("<>", "<>", True),
        ("<>", "@example.com", False),
        ("alice@", "<>", False),
        ("alice@example.com", "alice+x@example.com", True),
        ("alice@", "@example.com", True),
        ("alice@", "bob@example.com", False),
        ("@.example.com", "@a.example.com", True),
        ("@.example.com", "@example.com", False),
        ("@.example.com", "@.a.example.com", True),
        ("alice@a.example.com", "@.example.com", True),
    ],
)
def test_exception_that_can_match_nothing_is_known_by_the_patterns(one, other, overlap):
    """An exception that no recipient of the entry can match is a slip, and is refused."""
    assert patterns_overlap(one, other) is overlap
    assert patterns_overlap(other, one) is overlap


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        ("alice@example.com", "alice@example.com", True),
        ("<>", "<>", True),
        ("@example.com", "<>", False),
        ("<>", "@example.com", False),
        ("alice@", "alice@example.com", True),
        ("alice@", "alicia@example.com", False),
        ("alice@example.com", "alice@", False),
        ("alice@example.com", "alice@example.org", False),
        ("@example.com", "alice@example.com", True),
        ("@example.com", "@a.example.com", False),
        ("@example.com", "@.example.com", False),
        ("@example.com", "alice@", False),
        ("@.example.com", "alice@a.example.com", True),
        ("@.example.com", "@.a.example.com", True),
        ("@.example.com", "@example.com", False),
        ("@.example.com", "alice@badexample.com", False),
    ],
)
def test_exception_that_leaves_nothing_is_known_by_the_patterns(wide, narrow, covers):
    """An exception of everybody whom the entry is to would switch it off without a word, and is refused."""
    assert pattern_covers(wide, narrow) is covers


_NEAR = st.builds(
    "{}@{}".format,
    st.sampled_from(["a", "a+b", "b"]),
    st.sampled_from(["x.example", "y.x.example", "z.y.x.example", "yx.example", "example"]),
).map(parse_address)


@given(_NEAR, _NEAR)
def test_pattern_that_covers_another_matches_all_that_it_does(one, other):
    """A cover that was none would refuse an exception that somebody needs."""
    others = matching_patterns(other)
    covers = {wide for wide in matching_patterns(one) if any(pattern_covers(wide, narrow) for narrow in others)}
    assert covers <= {*others}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("smtp:alice", "; an address is typed without smtp: in front, and with its domain"),
        ("*", "; no * or ? stands for other characters: for everybody write anyone, for a domain @example.com"),
        ("alice,bob", "; several are typed as a word each"),
        ("alice", ""),
    ],
)
def test_mailbox_that_is_not_there_is_perhaps_a_slip(typed, said):
    """Who thinks in wildcards or lists is told how it is said here, and not sent to look for such a mailbox."""
    assert slip_in_name(typed) == said


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("mailto:a@example.com", "type it without mailto: in front"),
        ("<a@example.com>", "type it without < and >"),
        ("A <a@example.com>", "type it without the name in front, and without < and >: a@example.com"),
        ("a@example.com,", "type it without the , at its end"),
        ("a@example.com.", ""),
        ("a<b@example.com", ""),
        ("", ""),
    ],
)
def test_what_stands_around_an_address_is_told(typed, told):
    """People copy it from a letter, a log or a link."""
    assert slip_around_address(typed) == told
