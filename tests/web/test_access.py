"""Who gets in, and who doesn't: each rule on requests as browsers, proxies, programs and attackers send them."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.errors import SettingsError
from policyd.web.access import (
    COOKIE,
    SESSION_SECONDS,
    WRONG_TOKENS_EACH,
    WRONG_TOKENS_TOTAL,
    Access,
    Allowed,
    Arrival,
    Refused,
    Way,
    read_token,
)
from tests.support.randomised import examples
from tests.support.required import as_root

NOW = 1_800_000_000
TOKEN = "0123456789abcdef0123456789abcdef"
OURS = ["localhost", "LOCALHOST:9094", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:9094"]
NOT_OURS = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.2", "0.0.0.0", "[::2]"]
NO_HOSTS = [
    "",
    " ",
    "a b",
    "localhost:x",
    "localhost/",
    "u@localhost",
    "localhost,evil.example",
    "::1",
    "[::1",
    "a:1:2",
]


def arrival(
    path="/", *, way=Way.LOOPBACK, method="GET", host: str | list[str] | None = "localhost", peer=None, **headers
):
    """A request; names of headers have an underscore for a hyphen, and a header may have several values."""
    given = {name.replace("_", "-"): value if isinstance(value, list) else [value] for name, value in headers.items()}
    if host is not None:
        given["host"] = host if isinstance(host, list) else [host]
    peers = {Way.UNIX: "", Way.LOOPBACK: "127.0.0.1", Way.REMOTE: "192.0.2.1"}
    return Arrival(way, peers[way] if peer is None else peer, method, path, given)


def judge(request, access=None, now=NOW):
    return (access or Access()).judge(request, now)


def status(request, access=None, now=NOW):
    """200, or the status of the refusal."""
    judged = judge(request, access, now)
    return judged.status if isinstance(judged, Refused) else 200


# Without a token


@pytest.mark.parametrize("way", [Way.UNIX, Way.LOOPBACK])
@pytest.mark.parametrize("host", OURS)
def test_who_is_on_this_machine_gets_in(way, host):
    """As root does with the command line; ssh -L brings another port."""
    assert judge(arrival(way=way, host=host)) == Allowed()


@pytest.mark.parametrize("way", [Way.UNIX, Way.LOOPBACK])
@pytest.mark.parametrize("host", NOT_OURS)
def test_page_of_another_site_can_not_have_its_name_lead_here(way, host):
    """DNS rebinding: the browser on this machine believes that evil.example is 127.0.0.1, and sends that name."""
    assert status(arrival(way=way, host=host)) == 421


@pytest.mark.parametrize("host", [*NO_HOSTS, None, ["localhost", "localhost"], ["localhost", "evil.example"]])
def test_request_has_one_proper_host(host):
    """Of two, a proxy in front may have looked at the other one."""
    assert status(arrival(host=host)) == 400
    assert status(arrival(host=host, authorization=f"Bearer {TOKEN}"), Access(TOKEN)) == 400


def test_other_machines_need_a_token():
    """Whatever they say that they asked for."""
    assert status(arrival(way=Way.REMOTE)) == 403


@pytest.mark.parametrize("name", ["forwarded", "x_forwarded_for", "x_real_ip", "via"])
@pytest.mark.parametrize("way", [Way.UNIX, Way.LOOPBACK])
def test_what_came_through_a_proxy_is_not_from_this_machine(way, name):
    """nginx calls us localhost by default, whoever asked: its users would all be let in."""
    assert status(arrival(way=way, **{name: "127.0.0.1"})) == 403


@pytest.mark.parametrize("name", ["x_forwarded_for", "forwarded", "x_real_ip"])
def test_nobody_says_where_he_is(name):
    """A header of that kind lets nobody in."""
    assert status(arrival(way=Way.REMOTE, **{name: "127.0.0.1"})) == 403


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_for_everybody(path):
    """A load balancer knows no token."""
    assert status(arrival(path, way=Way.REMOTE, host="mx1.example.com:9094")) == 200
    assert status(arrival(path, way=Way.REMOTE, host="mx1.example.com:9094"), Access(TOKEN)) == 200


@pytest.mark.parametrize(
    "path", ["/metrics", "/", "/refusals", "/healthz/", "/login/", "/healthz/../metrics", "//healthz"]
)
def test_nothing_else_is(path):
    """Nor what looks like it."""
    assert status(arrival(path, way=Way.REMOTE)) == 403
    assert status(arrival(path, way=Way.REMOTE), Access(TOKEN)) == 401


# With a token


def bearer(token=TOKEN, **others):
    return arrival("/metrics", authorization=f"Bearer {token}", **{"way": Way.REMOTE, **others})


def test_right_token_gets_in_from_anywhere():
    """Under whatever name: who has the token was not sent here by somebody's page."""
    assert judge(bearer(host="mx1.example.com"), Access(TOKEN)) == Allowed()
    assert judge(arrival(authorization=f"bearer {TOKEN}"), Access(TOKEN)) == Allowed()


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"authorization": "Bearer "}, id="empty"),
        pytest.param({"authorization": f"Bearer {TOKEN}x"}, id="longer"),
        pytest.param({"authorization": f"Bearer {TOKEN[:-1]}"}, id="shorter"),
        pytest.param({"authorization": f"Bearer {TOKEN.upper()}"}, id="other case"),
        pytest.param({"authorization": "Bearer \xff\xfe"}, id="no ASCII"),
        pytest.param({"authorization": f"Basic {TOKEN}"}, id="another scheme"),
        pytest.param({"authorization": [f"Bearer {TOKEN}", "Bearer x"]}, id="two"),
        pytest.param({"cookie": f"{COOKIE}={TOKEN}"}, id="token as a session"),
        pytest.param({"x_forwarded_user": "root"}, id="a name"),
    ],
)
def test_wrong_token_does_not(way, headers):
    """On loopback, too: a proxy on this machine brings everybody from there."""
    assert status(arrival(way=way, **headers), Access(TOKEN)) == 401


def test_program_is_told_how_to_send_the_token():
    """And the log tells of it, since a program that forgot it asks for ever."""
    judged = judge(arrival("/metrics"), Access(TOKEN))
    assert judged == Refused(401, "A token is needed: Authorization: Bearer TOKEN.", "no token", is_login=True)


def test_first_visit_is_not_worth_a_line_in_the_log():
    """A browser has no token before somebody typed it."""
    judged = judge(arrival("/"), Access(TOKEN))
    assert isinstance(judged, Refused)
    assert judged.is_login
    assert judged.why == ""


def test_who_guesses_is_stopped_and_others_are_not():
    """Not even the right token is looked at then, so that guessing on tells nothing."""
    access = Access(TOKEN)
    assert [status(bearer("x"), access) for _ in range(WRONG_TOKENS_EACH)] == [401] * WRONG_TOKENS_EACH
    assert status(bearer(), access) == 429
    assert status(bearer(peer="198.51.100.1"), access) == 200
    assert status(bearer(), access, NOW + 60) == 200


@pytest.mark.parametrize(
    "peers",
    [
        pytest.param(["2001:db8::1", "2001:db8::2", "2001:db8::ffff:ffff:ffff:ffff"], id="addresses of one network"),
        pytest.param(["192.0.2.1", "::ffff:192.0.2.1"], id="two spellings"),
        pytest.param(["fe80::1%eth0", "fe80::1%eth1"], id="two interfaces"),
    ],
)
def test_one_host_is_one_peer(peers):
    """Whoever has an IPv6 network has no more guesses than who has an address."""
    assert len({arrival(way=Way.REMOTE, peer=peer).peer_key for peer in peers}) == 1


def test_many_hosts_guess_no_more_than_a_hundred_times():
    """And who is in stays in meanwhile."""
    access = Access(TOKEN)
    session = logged_in(access)
    statuses = [status(bearer("x", peer=f"198.51.100.{number}"), access) for number in range(WRONG_TOKENS_TOTAL)]
    assert statuses == [401] * WRONG_TOKENS_TOTAL
    assert status(bearer("x", peer="203.0.113.1"), access) == 429
    assert status(arrival(cookie=session), access) == 200


# The session


def logged_in(access, request=None, now=NOW):
    """What the browser of somebody who typed the token sends back."""
    cookie = access.log_in(request or arrival("/login", method="POST"), TOKEN, now)
    assert isinstance(cookie, str), cookie
    return cookie.partition(";")[0]


def test_typed_token_begins_a_session_and_is_not_in_it():
    """The browser keeps the cookie in a file."""
    access = Access(TOKEN)
    cookie = access.log_in(arrival("/login", method="POST"), f" {TOKEN}\n", NOW)
    assert isinstance(cookie, str)
    assert TOKEN not in cookie
    assert re.fullmatch(
        rf"{COOKIE}=\d+\.[0-9a-f]{{64}}; Path=/; Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Strict", cookie
    )
    assert status(arrival(cookie=f"a=b; {cookie.partition(';')[0]}"), access) == 200


def test_session_ends_by_itself():
    """On a computer that others use, too."""
    access = Access(TOKEN)
    session = logged_in(access)
    assert status(arrival(cookie=session), access, NOW + SESSION_SECONDS - 1) == 200
    assert status(arrival(cookie=session), access, NOW + SESSION_SECONDS) == 401


def test_another_token_ends_all_sessions():
    """So somebody who left has no way in any more."""
    assert status(arrival(cookie=logged_in(Access(TOKEN))), Access(TOKEN[::-1])) == 401


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda until, seal: f"{int(until) + 1}.{seal}", id="longer"),
        pytest.param(lambda until, seal: f"{until}.{'0' * 64}", id="another seal"),
        pytest.param(lambda until, seal: f"{until}.", id="no seal"),
        pytest.param(lambda until, seal: until, id="the time alone"),
        pytest.param(lambda until, seal: f"{until}.{seal}\xff", id="no ASCII"),
        pytest.param(lambda until, seal: f"{'9' * 5000}.{seal}", id="a long number"),
        pytest.param(lambda until, seal: f"١.{seal}", id="other digits"),
        pytest.param(lambda until, seal: f"-{until}.{seal}", id="a negative one"),
    ],
)
def test_session_can_not_be_made_up(change):
    """Not even by who had one."""
    access = Access(TOKEN)
    until, _, seal = logged_in(access).partition("=")[2].partition(".")
    assert status(arrival(cookie=f"{COOKIE}={change(until, seal)}"), access) == 401


def test_wrong_token_begins_no_session_and_counts_as_a_guess():
    """The form is a way to guess, too."""
    access = Access(TOKEN)
    statuses = []
    for _ in range(WRONG_TOKENS_EACH + 1):
        refused = access.log_in(arrival("/login", method="POST"), "x", NOW)
        assert isinstance(refused, Refused)
        statuses.append(refused.status)
    assert statuses == [401] * WRONG_TOKENS_EACH + [429]
    assert status(bearer(way=Way.LOOPBACK), access) == 429


def test_without_a_token_there_is_no_session():
    """An empty secret would seal it."""
    refused = Access().log_in(arrival("/login", method="POST"), "", NOW)
    assert isinstance(refused, Refused)
    assert refused.status == 404


@pytest.mark.parametrize(
    ("headers", "is_secure"),
    [
        pytest.param({"host": "policyd.example", "origin": "https://policyd.example"}, True, id="HTTPS, by origin"),
        pytest.param({"host": "policyd.example", "sec_fetch_site": "same-origin"}, True, id="HTTPS, by fetch metadata"),
        pytest.param({"host": "policyd.example", "origin": "http://policyd.example"}, False, id="HTTP"),
        pytest.param({"host": "localhost:9094", "sec_fetch_site": "same-origin"}, False, id="loopback"),
        pytest.param({"host": "policyd.example", "x_forwarded_proto": "https"}, False, id="anybody's word"),
    ],
)
def test_cookie_is_secure_where_the_browser_came_over_https(headers, is_secure):
    """Where it did not, the browser would not take a Secure one, and nobody got in."""
    cookie = Access(TOKEN).log_in(arrival("/login", method="POST", **headers), TOKEN, NOW)
    assert isinstance(cookie, str)
    assert ("; Secure" in cookie) == is_secure


def test_logout_takes_the_cookie_away():
    """And nothing else is needed for it."""
    assert Access(TOKEN).log_out(arrival()).startswith(f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly")


# Behind a reverse proxy

PROXY = Access(user_header="X-Remote-User")


def test_proxy_says_who_its_user_is():
    """Over the socket that only it may connect to, whatever the page is called outside."""
    request = arrival(way=Way.UNIX, host="policyd.example", x_remote_user="ann", x_forwarded_for="192.0.2.7")
    assert judge(request, PROXY) == Allowed("ann")


def test_name_of_a_user_may_be_in_any_script():
    """Headers are bytes; nginx passes on what it got."""
    request = arrival(way=Way.UNIX, x_remote_user="Jörg".encode().decode("latin-1"))
    assert judge(request, PROXY) == Allowed("Jörg")


@pytest.mark.parametrize("way", [Way.LOOPBACK, Way.REMOTE])
def test_over_tcp_anybody_could_write_the_header(way):
    """So it names nobody there, and lets nobody in."""
    judged = judge(arrival(way=way, x_remote_user="root"), PROXY)
    assert judged == Allowed("") if way is Way.LOOPBACK else isinstance(judged, Refused)
    assert status(arrival(way=way, x_remote_user="root"), Access(TOKEN, "X-Remote-User")) == 401


def test_header_that_no_setting_names_is_nobody_s_word():
    """A proxy passes on what its users send."""
    assert judge(arrival(way=Way.UNIX, x_remote_user="root")) == Allowed("")


@pytest.mark.parametrize("headers", [{}, {"x_remote_user": ""}])
def test_proxy_that_forgets_the_user_lets_nobody_in(headers):
    """A location in its configuration without the line is quickly written."""
    assert status(arrival(way=Way.UNIX, **headers), PROXY) == 403
    assert status(arrival(way=Way.UNIX, **headers), Access(TOKEN, "X-Remote-User")) == 401


@pytest.mark.parametrize("value", [["ann", "root"], "\xff", "a\x1b[2J", "a" * 257, "‮".encode().decode("latin-1")])
def test_name_of_a_user_is_one_line_of_text(value):
    """It stands on the page."""
    assert status(arrival(way=Way.UNIX, x_remote_user=value), PROXY) == 400


# What a browser sends for another site's page


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        pytest.param({"sec_fetch_site": "same-origin"}, True, id="our form"),
        pytest.param({"sec_fetch_site": "same-origin", "origin": "null"}, True, id="our form, by our referrer policy"),
        pytest.param({"sec_fetch_site": "none"}, True, id="the person's own doing"),
        pytest.param({"origin": "http://localhost"}, True, id="our form, in the clear"),
        pytest.param({"origin": "null"}, True, id="our form, in the clear, by our referrer policy"),
        pytest.param({}, True, id="a program"),
        pytest.param({"sec_fetch_site": "cross-site"}, False, id="another site's"),
        pytest.param({"sec_fetch_site": "cross-site", "origin": "http://localhost"}, False, id="another site's liar"),
        pytest.param({"sec_fetch_site": "same-site"}, False, id="a neighbour's"),
        pytest.param({"sec_fetch_site": ""}, False, id="no word"),
        pytest.param({"origin": "https://evil.example"}, False, id="another origin"),
        pytest.param({"origin": "http://localhost.evil.example"}, False, id="one like ours"),
        pytest.param({"origin": "http://localhost:81"}, False, id="another port"),
        pytest.param({"origin": "ftp://localhost"}, False, id="another scheme"),
        pytest.param({"origin": ["http://localhost", "http://localhost"]}, False, id="one origin twice"),
        pytest.param({"origin": ["http://localhost", "http://evil.example"]}, False, id="two origins"),
    ],
)
def test_form_is_ours(headers, allowed):
    """A page elsewhere must not have somebody's browser search here."""
    assert status(arrival(method="POST", **headers)) == (200 if allowed else 403)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND", "", "G" * 1000])
def test_only_three_methods_are_known(method):
    """Nothing here is changed by a request."""
    assert status(arrival(method=method)) == 405


@pytest.mark.parametrize("path", ["*", "", "http://localhost/", "metrics", "\\"])
def test_path_begins_with_a_slash(path):
    """What is for a proxy is not for us."""
    assert status(arrival(path)) == 400


texts = st.binary(max_size=30).map(lambda raw: raw.decode("latin-1"))
names = st.sampled_from(["host", "authorization", "cookie", "origin", "sec-fetch-site", "x-remote-user", "via"])
values = st.one_of(texts, st.sampled_from(["localhost", f"Bearer {TOKEN[1:]}", f"{COOKIE}=1.2", "null", "same-origin"]))


@examples(30, 1000)
@given(
    way=st.sampled_from(Way),
    method=st.one_of(texts, st.sampled_from(["GET", "POST"])),
    path=texts.map("/{}".format),
    headers=st.dictionaries(names, st.lists(values, max_size=3)),
)
def test_whoever_has_no_token_gets_nothing_but_what_is_for_everybody(way, method, path, headers):
    """Whatever he sends, and nothing that he sends is an error of ours."""
    judged = judge(Arrival(way, "", method, path, headers), Access(TOKEN))
    is_open = path in ("/healthz", "/readyz", "/login") or path.startswith("/static/")
    assert isinstance(judged, Refused) or is_open


# The file with the token


def write_token(folder, text=TOKEN, mode=0o640):
    path = folder / "token"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("text", [TOKEN, f"{TOKEN}\n", f"{TOKEN}\r\n", "x" * 20, "x" * 512])
def test_token_is_the_one_word_in_its_file(tmp_path, text):
    """With the end of line that editors write."""
    assert read_token(write_token(tmp_path, text)) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("secret", id="short"),
        pytest.param("x" * 513, id="long"),
        pytest.param("x" * 100_000, id="a large file"),
        pytest.param("correct horse battery staple", id="several words"),
        pytest.param("x" * 20 + "\nsecond line", id="two lines"),
        pytest.param("pässword-pässword-pässword", id="no ASCII"),
        pytest.param(b"\0" * 32, id="bytes"),
    ],
)
def test_what_is_no_good_token_is_refused_with_the_command_that_makes_one(tmp_path, text):
    """A secret of a few letters is guessed."""
    path = write_token(tmp_path, text)
    with pytest.raises(SettingsError, match=f"http.token_file: {path}: .*openssl rand -hex 32 > {path}"):
        read_token(path)


def test_message_does_not_tell_the_token(tmp_path):
    """It goes to a log."""
    with pytest.raises(SettingsError) as told:
        read_token(write_token(tmp_path, "hunter2"))
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("mode", [0o644, 0o642, 0o606])
def test_token_that_everybody_can_read_or_write_is_none(tmp_path, mode):
    """It is no secret any more, so another one has to be made."""
    path = write_token(tmp_path, mode=mode)
    with pytest.raises(SettingsError, match=re.escape(f"everybody can read or write it (mode {mode:04o})")):
        read_token(path)


def test_token_in_a_folder_that_everybody_can_write_is_none(tmp_path):
    """Somebody could put another one there."""
    folder = tmp_path / "open"
    folder.mkdir()
    path = write_token(folder)
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match="chmod o-w"):
        read_token(path)


@as_root
def test_token_of_another_user_is_none(tmp_path):
    """He knows it, and can write another one."""
    path = write_token(tmp_path, mode=0o600)
    os.chown(path, 12345, 12345)
    with pytest.raises(SettingsError, match=f"it belongs to 12345, .* chown root {path}"):
        read_token(path)


def test_missing_token_is_named(tmp_path):
    """Rather than an open door."""
    with pytest.raises(SettingsError, match="No such file or directory"):
        read_token(tmp_path / "none")
