"""What a setup would do, on configurations as people have them: only postconf and postmap run."""

import pytest

from policyd.errors import SetupError
from policyd.settings import load_settings
from policyd.setup.plan import Plan, make_plan
from tests.doctor.sites import Site

from .conftest import MakeHost


@pytest.fixture
def plan(make_host: MakeHost) -> Plan:
    """The plan for a host with Debian's default."""
    host = make_host("default")
    return make_plan(load_settings(host.settings), host.settings, host.postfix.config)


def test_each_name_of_the_host_is_one_domain_to_policyd(plan: Plan) -> None:
    """Or bob@localhost would get round what is set for bob."""
    assert plan.listed.domains == {
        "example.com": "",
        "mx.example.com": "example.com",
        "localhost": "example.com",
        "[127.0.0.1]": "example.com",
        "lists.example.com": "",
        "customer.example": "",
    }


def test_mailboxes_and_their_further_addresses_come_from_maps(plan: Plan) -> None:
    """Nobody types what Postfix knows."""
    assert plan.listed.mailboxes == ["alice@lists.example.com", "bob@lists.example.com"]
    assert plan.listed.aliases == {"info@lists.example.com": "alice@lists.example.com"}


def test_settings_say_what_postfix_says_and_refuse_nothing_yet(plan: Plan) -> None:
    """The file has a user already, which stays."""
    assert set(plan.wanted.added) >= {
        'origin = "example.com"',
        'recipient_delimiter = "+"',
        'insider_networks = ["127.0.0.0/8", "10.0.0.0/8"]',
        'insider_contexts = ["submission"]',
        'mode = "monitor"',
    }
    assert not any(line.startswith("user") for line in plan.wanted.added)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("class-undeclared", "class-undeclared"),
        ("master-cf-blanks", "value-cut"),
        ("second-instance", "other instances"),
    ],
)
def test_what_is_not_understood_is_left_to_a_person(make_host: MakeHost, name: str, why: str) -> None:
    """A setup that guesses is worse than none."""
    folder = make_host("plain").folder / "site"
    folder.mkdir()
    site = Site(name, folder, folder / "queue")
    obstacles = make_plan(load_settings(site.settings), site.settings, site.config).obstacles
    assert any(why in each for each in obstacles), obstacles


def test_queue_in_which_nobody_can_listen_is_told(make_host: MakeHost) -> None:
    """As of a template that nobody has filled in: one line, and no traceback."""
    host = make_host("plain")
    main_cf = host.postfix.config / "main.cf"
    main_cf.write_text(f"{main_cf.read_text()}\nqueue_directory = @queue@\n")
    with pytest.raises(SetupError, match=r"^queue_directory: policyd can't listen there: 'unix:@queue@/policyd/"):
        make_plan(load_settings(host.settings), host.settings, host.postfix.config)


def test_where_policyd_is_asked_as_it_should_be_nothing_is_to_do_in_postfix(make_host: MakeHost) -> None:
    """Whoever has followed the guide gets no second check."""
    folder = make_host("plain").folder / "site"
    folder.mkdir()
    site = Site("good-mx-guide", folder, folder / "queue")
    assert make_plan(load_settings(site.settings), site.settings, site.config).commands == ()


def test_plan_names_the_user_the_folders_and_the_reload(make_host: MakeHost) -> None:
    """Who looks first wants to know that a user is made and a service started, not only what Postfix gets."""
    host = make_host("default")
    missing = host.folder / "missing"
    host.settings.write_text(
        f'user = "nobody-of-policyd"\ndatabase = "sqlite:///{missing}/policyd.db"\n'
        f'listen = ["unix:{missing}/policyd.sock"]\n'
    )
    plan = make_plan(load_settings(host.settings), host.settings, host.postfix.config)
    assert [line.split()[0] for line in plan.host] == ["useradd", "install", "install"]
    assert plan.reload == f"postfix -c {host.postfix.config} reload"
