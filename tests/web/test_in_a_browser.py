"""The pages as people use them, in a real browser: by keyboard alone, on a telephone, without scripts, in the dark.

All of it on tables and refusals in which somebody hostile has written whatever he could.
"""

from collections.abc import Iterator

import pytest

from tests.support.browser import Visitor, chromium
from tests.support.web_daemon import EXAMPLE, HOSTILE, IMAGE, LONG, SCRIPT, TURNED, WebDaemon

pytestmark = pytest.mark.full  # a browser takes seconds to start, and another process for each page

TOKEN = "0123456789abcdef0123456789abcdef"
TELEPHONE = {"width": 360, "height": 700}
WEIGHT_LIMIT = 60_000  # bytes of a page, with its style and script, as they are sent

USUAL = pytest.param({}, id="usual")
DARK_TELEPHONE = pytest.param({"viewport": TELEPHONE, "color_scheme": "dark"}, id="dark telephone")
NO_SCRIPTS = pytest.param({"viewport": TELEPHONE, "java_script_enabled": False}, id="no scripts")
SCHEMES = pytest.mark.parametrize(
    "options",
    [
        pytest.param({"viewport": TELEPHONE, "color_scheme": "light"}, id="light"),
        pytest.param({"viewport": TELEPHONE, "color_scheme": "dark"}, id="dark"),
    ],
)
PAGES = ["", "refusals", "mailbox", "domain", "group", "journal", "health"]


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def daemon(tmp_path_factory) -> Iterator[WebDaemon]:
    """A daemon of a usual office, to which somebody hostile sends mail."""
    with WebDaemon(tmp_path_factory.mktemp("web")) as daemon:
        daemon.fill(EXAMPLE + HOSTILE)
        daemon.start()
        daemon.refuse_some()
        daemon.refuse_hostile()
        yield daemon
        assert daemon.stop() == (0, "")
        assert daemon.syslog.matching("warning") == []


@pytest.fixture
def visit(browser, daemon):
    """Opens visitors' windows; at the end nothing may have happened that should not."""
    visitors = []

    def come(pages: str = "", **options: object) -> Visitor:
        visitors.append(Visitor(browser, pages or daemon.pages, **options))
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.close()


def ask(visitor: Visitor, about: str, status: int | None = 200) -> None:
    """Type a question on the first page."""
    visitor.open()
    visitor.type_into("#about", about)
    visitor.press_enter(status)


# What the help desk does all day


@pytest.mark.parametrize("options", [USUAL, DARK_TELEPHONE, NO_SCRIPTS])
def test_question_is_asked_and_answered_by_keyboard_alone(visit, options):
    """The address is typed at once: the field has the focus; the answer begins with the sentence."""
    visitor = visit(**options)
    ask(visitor, "bob@example.com")
    assert visitor.read("section.answer h2").replace("\n", " ").startswith("REJECT")
    assert "Bob Baker takes mail from insiders only: on leave, please write to Reception" in visitor.read()
    assert "policyd mailbox accept 'Bob Baker'" in visitor.read()
    assert "joe@partner.example" in visitor.read("section[aria-labelledby=last]")
    assert visitor.page.url == visitor.page.url.partition("?")[0]  # no address in it


@pytest.mark.parametrize("options", [USUAL, DARK_TELEPHONE, NO_SCRIPTS])
def test_refusals_are_filtered_by_keyboard_alone(visit, options):
    """And one of them leads to the question why."""
    visitor = visit(**options)
    visitor.open("refusals")
    visitor.type_into("#sender", "bulk -list")
    visitor.press_enter()
    assert "offer@bulk.example" in visitor.read()
    assert "list.bulk.example" not in visitor.read("#live")
    assert "partner.example" not in visitor.read("#live")
    visitor.tab_to("#live td :is(a, button)")
    visitor.press_enter()
    assert "blocked-sender" in visitor.read()


@pytest.mark.parametrize("options", [USUAL, DARK_TELEPHONE, NO_SCRIPTS])
def test_mailbox_is_looked_up_by_keyboard_alone(visit, options):
    """What is in force, and where it comes from."""
    visitor = visit(**options)
    visitor.open("mailbox")
    visitor.type_into("main input", "ann@example.com")
    visitor.press_enter()
    assert "Ann Miller" in visitor.read()
    assert "Accounting" in visitor.read()
    assert "the team's own" in visitor.read()


@pytest.mark.parametrize("options", [USUAL, DARK_TELEPHONE, NO_SCRIPTS])
def test_domain_leads_to_a_mailbox_and_its_group_by_keyboard_alone(visit, options):
    """It is typed where one asks; from there every name leads on, and none of them stands in a URL."""
    visitor = visit(**options)
    ask(visitor, "example.com")
    assert visitor.read("h1") == "Domain"
    assert "nothing but advertising" in visitor.read()
    visitor.tab_to("td button[value='Ann Miller']")
    visitor.press_enter()
    assert visitor.read("h1") == "Mailbox"
    visitor.tab_to("dd button[value='group:Accounting']")
    visitor.press_enter()
    assert visitor.read("h1") == "Group"
    assert "the team's own" in visitor.read()
    visitor.tab_to("details.offers summary")
    visitor.page.keyboard.press("Enter")
    assert "policyd group lift Accounting" in visitor.read("details.offers[open]")
    assert visitor.page.url.endswith("/group")


@SCHEMES
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("domain", "example.com"),
        ("domain", "list.bulk.example"),
        ("group", "Office"),
        ("group", IMAGE.replace('"', "")),
        ("mailbox", SCRIPT),
    ],
)
def test_page_about_one_is_for_everybody(visit, options, path, name):
    """Also one in which somebody hostile is named."""
    visitor = visit(**options)
    visitor.open(path)
    visitor.type_into("#name", name)
    visitor.press_enter()
    for folded in visitor.page.locator("details").all():
        folded.evaluate("each => { each.open = true }")
    must_be_accessible(visitor)
    must_be_harmless(visitor)


@pytest.mark.parametrize("options", [USUAL, DARK_TELEPHONE, NO_SCRIPTS])
def test_journal_is_searched_by_keyboard_alone(visit, options):
    """Who changed what, with the values before and after."""
    visitor = visit(**options)
    visitor.open("journal")
    visitor.type_into("#object", "Bob Baker")
    visitor.press_enter()
    assert "mailbox.restrict" in visitor.read()
    assert "Payroll" not in visitor.read("#live")
    visitor.tab_to("#live summary")
    visitor.page.keyboard.press("Enter")
    assert "insiders" in visitor.read("#live details[open]")


def test_command_is_copied_where_scripts_run(visit):
    """By keyboard, too."""
    visitor = visit(permissions=["clipboard-read", "clipboard-write"])
    ask(visitor, "bob@example.com")
    visitor.tab_to("button.copy")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_selector("button.copy:has-text('Copied')")
    copied = visitor.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("policyd mailbox accept 'Bob Baker'")


def test_page_that_is_refreshed_asks_for_the_same_again(visit):
    """The box that turns it on is reached by keyboard; the page has no other way out."""
    visitor = visit()
    visitor.page.clock.install()
    visitor.open("refusals")
    visitor.type_into("#sender", "bulk")
    visitor.press_enter()
    visitor.tab_to(".refresh input")
    visitor.page.keyboard.press("Space")
    with visitor.page.expect_response(lambda response: response.request.method == "POST") as answered:
        visitor.page.clock.run_for(61_000)
    assert answered.value.status == 200


# How it looks, to whom


@SCHEMES
@pytest.mark.parametrize("path", PAGES)
def test_page_is_for_everybody(visit, path, options):
    """axe finds nothing; nobody scrolls sideways, or waits long; and what was sent to us is no part of the page."""
    visitor = visit(**options)
    visitor.open(path)
    must_be_accessible(visitor)
    must_be_harmless(visitor)
    visitor.page.wait_for_load_state("networkidle")
    assert 0 < visitor.bytes < WEIGHT_LIMIT
    if path == "refusals":
        assert SCRIPT in visitor.read()
        assert "\u202e" not in visitor.read("#live")  # which would turn around what is behind it


def test_what_is_not_there_is_a_page_too(visit):
    """Somebody has mistyped it."""
    visitor = visit(viewport=TELEPHONE)
    visitor.open("nowhere", 404)
    must_be_accessible(visitor)


@SCHEMES
def test_answer_is_for_everybody(visit, options):
    """Also one with a hostile name in it, and what is no answer."""
    visitor = visit(**options)
    for about in ("bob@example.com", SCRIPT, "nobody knows", "joe@a.example"):
        ask(visitor, about, None)
        must_be_accessible(visitor)
        must_be_harmless(visitor)


def must_be_accessible(visitor: Visitor) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(visitor.page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(
    ("path", "field"),
    [("", "#about"), *((each, "#name") for each in ("mailbox", "domain", "group")), ("refusals", "#sender")],
)
def test_whatever_is_typed_is_text(visit, path, field):
    """It is shown again as it was typed, fits, and does nothing."""
    visitor = visit(viewport=TELEPHONE)
    for typed in (SCRIPT, "W" * 250, LONG, TURNED, IMAGE, "<>", "{{7*7}}"):
        visitor.open(path)
        visitor.page.fill(field, typed)
        visitor.page.focus(field)
        visitor.press_enter(None)
        must_be_harmless(visitor)


def must_be_harmless(visitor: Visitor) -> None:
    assert visitor.page.title().endswith("policyd")
    assert visitor.page.locator("script:not([src])").count() == 0
    assert visitor.page.locator("main img, main script, main iframe, main [onerror]").count() == 0
    assert visitor.width <= TELEPHONE["width"]


# The token


def test_token_is_typed_once(visit, tmp_path):
    """And then everything is as without one, until one logs out."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "token").chmod(0o600)
    with WebDaemon(tmp_path, f'token_file = "{tmp_path / "token"}"') as daemon:
        daemon.make_tables("alice")
        daemon.start()
        visitor = visit(daemon.pages, viewport=TELEPHONE, color_scheme="dark")
        visitor.open("refusals", 401)
        must_be_accessible(visitor)
        visitor.type_into("#token", "guess")
        visitor.press_enter(401)
        assert "This is not the token" in visitor.read()
        visitor.type_into("#token", TOKEN)
        visitor.press_enter()
        assert visitor.page.locator("#about").count() == 1
        (cookie,) = visitor.page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Strict", False)
        visitor.open("refusals")
        assert visitor.page.locator("#sender").count() == 1
        assert daemon.stop() == (0, "")
