"""What is told of a service's lists, without a Postfix that reads them."""

from pathlib import Path

import pytest

from policyd.doctor.examination import Examination
from policyd.doctor.mistakes import diagnose_mistakes
from policyd.doctor.placement import diagnose_placement
from policyd.doctor.postconf import Instance, Service
from policyd.doctor.repair import plan
from policyd.endpoint import parse_endpoint
from policyd.settings import Settings

ASK = "check_policy_service { unix:policyd/policyd.sock, timeout=5s, { default_action = 451 }, policy_context=inbound }"
REST = "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination"
DEFAULTS = {
    "queue_directory": "/nowhere/queue",
    "mynetworks": "127.0.0.0/8 192.0.2.0/24",
    "smtpd_relay_restrictions": REST,
    "smtpd_relay_before_recipient_restrictions": "yes",
    "smtpd_delay_reject": "yes",
    "smtpd_sasl_auth_enable": "yes",
    "smtpd_policy_service_timeout": "100s",
    "smtpd_policy_service_max_idle": "300s",
    "smtpd_policy_service_try_limit": "2",
    "smtpd_policy_service_default_action": "451 4.3.5 Server configuration problem",
    "mail_version": "3.7.11",
}


def examination(overrides: dict[str, str], *services: Service, **values: str) -> Examination:
    """An MX with these parameters of main.cf and of its own, beside other services."""
    main = {**DEFAULTS, **values}
    smtp = Service("smtp/inet", "smtpd", (), False, (), overrides, {**main, **overrides})
    instance = Instance(Path("/nowhere"), main, main, (smtp, *services), ())
    settings = Settings(insider_contexts=frozenset({"submission"}))
    return Examination(instance, settings, (parse_endpoint("unix:/nowhere/queue/policyd/policyd.sock"),))


def found(**values: str) -> set[str]:
    """The codes of what is told of an MX with these parameters in main.cf."""
    examined = examination({}, **values)
    return {each.code for each in (*diagnose_mistakes(examined), *diagnose_placement(examined))}


@pytest.mark.parametrize(
    ("recipient", "others", "codes"),
    [
        pytest.param(f"{ASK}, {REST}", {}, set(), id="first in its list"),
        pytest.param(f"reject_unknown_client_hostname, {ASK}, {REST}", {}, set(), id="behind what refuses only"),
        pytest.param(f"{REST}, {ASK}", {}, {"check-after-permit"}, id="behind what permits"),
        pytest.param(f"PERMIT_MYNETWORKS {ASK}", {}, {"check-after-permit"}, id="in capitals"),
        pytest.param(f"permit_auth_destination, {ASK}", {}, {"check-after-permit"}, id="behind all mail for us"),
        pytest.param(
            f"permit_sasl_authenticated, {ASK}, {REST}",
            {"smtpd_sasl_auth_enable": "no"},
            set(),
            id="behind a permit that nobody can match",
        ),
        pytest.param(
            f"lan, {ASK}",
            {"smtpd_restriction_classes": "lan", "lan": "permit_mynetworks"},
            {"check-after-permit"},
            id="behind a class that permits",
        ),
        pytest.param(f"asked, {REST}", {"smtpd_restriction_classes": "asked", "asked": ASK}, set(), id="in a class"),
        pytest.param(
            f"round, {ASK}",
            {"smtpd_restriction_classes": "round", "round": "round"},
            {"smtpd-dead"},
            id="a class in itself",
        ),
        pytest.param(
            f"check_recipient_access inline:{{bob=asked}}, {REST}",
            {"smtpd_restriction_classes": "asked", "asked": ASK},
            {"check-conditional"},
            id="in a class that a table names",
        ),
        pytest.param(f"asked, {REST}", {"asked": ASK}, {"class-undeclared", "check-missing"}, id="nobody's class"),
        pytest.param(
            f"{ASK}, {REST}",
            {"smtpd_restriction_classes": "empty", "empty": ""},
            {"undefined-parameter"},
            id="a class without a value",
        ),
        pytest.param(REST, {"smtpd_client_restrictions": "reject"}, set(), id="nobody comes in"),
        pytest.param(
            REST, {"smtpd_client_restrictions": "permit_mynetworks, reject"}, {"check-missing"}, id="some come in"
        ),
        pytest.param(f"reject, {ASK}", {}, {"check-after-reject"}, id="behind a reject"),
        pytest.param(f"warn_if_reject {ASK}, {REST}", {}, {"check-warn-only"}, id="warned of"),
        pytest.param(f"warn_if_reject reject, {ASK}, {REST}", {}, set(), id="behind a warning"),
        pytest.param(REST, {"smtpd_data_restrictions": ASK}, {"check-wrong-stage"}, id="at DATA"),
        pytest.param(
            REST,
            {"smtpd_sender_restrictions": ASK, "smtpd_delay_reject": "no"},
            {"check-wrong-stage"},
            id="before there is a recipient",
        ),
        pytest.param(
            REST, {"smtpd_sender_restrictions": ASK}, {"check-before-relay"}, id="before relaying is looked at"
        ),
        pytest.param(
            REST,
            {"smtpd_sender_restrictions": ASK, "smtpd_client_restrictions": REST},
            set(),
            id="behind relaying among the restrictions of clients",
        ),
        pytest.param(
            f"{ASK}, {REST}",
            {"smtpd_relay_restrictions": ""},
            {"check-before-relay"},
            id="nobody looks at relaying first",
        ),
        pytest.param(f"{ASK}, {ASK}, {REST}", {}, {"check-twice"}, id="twice"),
        pytest.param(f"check_policy_service inet:127.0.0.1:10023, {REST}", {}, {"check-missing"}, id="somebody else"),
        pytest.param(
            f"check_policy_service unix:policyd/policyd.sock, {REST}",
            {},
            {"default-action-implicit", "timeout-long"},
            id="without braces",
        ),
        pytest.param("check_policy_service", {}, {"check-missing", "class-undeclared"}, id="without an argument"),
        pytest.param("", {}, {"check-missing"}, id="nothing at all"),
        pytest.param(
            f"{REST}, check_policy_service {{ unix:greylist, {{ default_action = 451 }}",
            {},
            {"check-missing", "smtpd-dead"},
            id="a brace that nobody closes",
        ),
        pytest.param(f"{ASK}, {REST}", {"smtpd_delay_reject": "true"}, {"smtpd-dead"}, id="a switch that is neither"),
        pytest.param(
            f"{ASK}, check_sender_access /etc/postfix/senders, {REST}",
            {},
            {"class-undeclared"},
            id="a table without its type",
        ),
        pytest.param(
            f"{ASK}, {REST}",
            {"smtpd_data_restrictions": "hash:/etc/postfix/senders"},
            {"class-undeclared"},
            id="a table where nothing says of what",
        ),
        pytest.param(f"check_recipient_maps, {ASK}, {REST}", {}, set(), id="behind a name for what is unlisted"),
        pytest.param(f"reject_maps_rbl, {ASK}, {REST}", {}, set(), id="behind old lists of hosts"),
        pytest.param(f"check_relay_domains, {ASK}", {}, {"check-after-permit"}, id="behind what relays or refuses"),
        pytest.param(f"permit_tls_clientcerts, {ASK}, {REST}", {}, set(), id="behind certificates of nobody"),
        pytest.param(
            f"permit_tls_clientcerts, {ASK}, {REST}",
            {"smtpd_tls_ask_ccert": "yes", "relay_clientcerts": "hash:/etc/postfix/clients"},
            {"check-after-permit"},
            id="behind certificates",
        ),
        pytest.param(
            f"check_sender_mx_access inline:{{far.example=OK}}, {ASK}, {REST}",
            {},
            set(),
            id="behind a table that may not permit",
        ),
        pytest.param(
            f"reject_unauth_destinaton, {ASK}, {REST}", {}, {"class-undeclared"}, id="a restriction misspelled"
        ),
        pytest.param(
            f"{ASK.replace('inbound', 'submission')}, permit_sasl_authenticated, permit_auth_destination, reject",
            {},
            {"context-open"},
            id="strangers come in to this host alone",
        ),
        pytest.param(
            f"{ASK.replace('inbound', 'submission')}, permit_sasl_authenticated, reject, permit_mynetworks",
            {},
            set(),
            id="something behind the reject",
        ),
        pytest.param(
            f"{ASK.replace('inbound', 'submission')}, {REST}",
            {"smtpd_sender_restrictions": "permit_sasl_authenticated, reject"},
            set(),
            id="strangers are refused by their sender",
        ),
        pytest.param(
            f"{ASK}, permit",
            {"smtpd_relay_restrictions": "permit_mynetworks, permit, reject_unauth_destination"},
            {"smtpd-dead"},
            id="nothing keeps strangers from relaying",
        ),
    ],
)
def test_place_of_the_check_is_judged(recipient: str, others: dict[str, str], codes: set[str]) -> None:
    """Postfix takes them all, and says nothing of any."""
    assert found(smtpd_recipient_restrictions=recipient, **others) == codes


@pytest.mark.parametrize(
    "endpoint",
    ["unix:/var/spool/postfix/postgrey/socket", "unix:private/policy-spf", "inet:127.0.0.1:7777", "inet:[::1]:12525"],
)
def test_another_program_that_is_away_is_not_taken_for_policyd(endpoint: str) -> None:
    """Who is told of its socket alone believes that policyd is asked as soon as that program runs."""
    examined = examination({}, smtpd_recipient_restrictions=f"check_policy_service {endpoint}, {REST}")
    examined.dead.add(endpoint)
    assert [each.code for each in diagnose_placement(examined)] == ["check-missing"]


@pytest.mark.parametrize("name", ["smtp/inet", "25/inet", "192.0.2.1:smtp/inet"])
def test_the_port_of_strangers_is_none_of_a_content_filter(name: str) -> None:
    """Where only what people send is filtered, the port of all others says content_filter=, too."""
    own = {"content_filter": "", "smtpd_recipient_restrictions": f"{ASK}, {REST}"}
    service = Service(name, "smtpd", (), False, (), own, {**DEFAULTS, **own})
    examined = examination({}, service, smtpd_recipient_restrictions=f"{ASK}, {REST}")
    assert [*diagnose_placement(examined)] == []


def test_network_that_postfix_can_not_use_is_noted() -> None:
    """It puts off all mail that it compares with such a one, and logs a warning only."""
    wrong = ["192.0.2.5/24", "192.0.2.0/33", "!10.1.2.3/8", "192.0.2.0/255.255.255.0", "192.0.2/24", "192.0.2.0/"]
    wrong += ["[2001:db8::1]/32", "2001:db8::/32"]
    good = ["127.0.0.0/8", "192.0.2.5", "[::1]/128", "[::1]", "!10.0.0.0/8", "[fe80::]/64", "mx.example.com"]
    examined = examination({}, mynetworks=" ".join([*good, *wrong]), smtpd_recipient_restrictions=f"{ASK}, {REST}")
    assert [*diagnose_mistakes(examined)] == []
    told = "mynetworks: {} is no network; Postfix puts off with 451 what is compared with it"
    assert examined.unseen == [told.format(word) for word in wrong]


def test_filter_of_another_host_is_not_locked_out() -> None:
    """It gives mail back at an address that is there for it: mynetworks of loopback would stop all mail."""
    own = {"content_filter": "", "smtpd_recipient_restrictions": "permit_mynetworks, reject"}
    service = Service("10.89.0.3:10025/inet", "smtpd", (), False, (), own, {**DEFAULTS, **own})
    (told,) = diagnose_placement(examination({}, service, smtpd_recipient_restrictions=f"{ASK}, {REST}"))
    assert (told.code, told.commands) == ("reinjection-open", ())
    assert "listens at 10.89.0.3: 192.0.2.0/24 gets past" in told.sentence


def test_other_programs_stay_where_a_list_is_put_right() -> None:
    """Who types the line loses neither greylisting nor his own restrictions, in the form in which he wrote them."""
    greylisting = "check_policy_service inet:127.0.0.1:10023"
    examined = examination(
        {}, smtpd_recipient_restrictions=f"$own, {greylisting}, {ASK}", own="reject_unlisted_recipient"
    )
    service = examined.instance.smtpd[0]
    (line,) = plan(examined, service)
    assert line.endswith(f"policy_context=inbound }}, $own, {greylisting}'")
