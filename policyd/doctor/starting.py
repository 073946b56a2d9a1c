"""What keeps smtpd from starting, as it reads its parameters and lists; and what it ends at. Pure.

`postconf` and `postfix check` read none of it. Source: smtpd_check_init(), has_required() and
policy_client_register() in Postfix's smtpd_check.c; attr_override.c, extpar.c, mail_conf_bool.c, mail_conf_int.c and
mail_conf_time.c.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, pairwise

from policyd.doctor.postconf import Service
from policyd.doctor.restrictions import ASK, LISTS, RECIPIENT, RELAY, WARN, classes_of
from policyd.doctor.words import split_words, without_braces

# Of the parameters that are yes or no, those of smtpd that people set.
_SWITCHES = (
    *("broken_sasl_auth_clients", "disable_vrfy_command", "soft_bounce", "strict_rfc821_envelopes"),
    *("smtpd_delay_reject", "smtpd_helo_required", "smtpd_peername_lookup", "smtpd_reject_unlisted_recipient"),
    *("smtpd_reject_unlisted_sender", "smtpd_relay_before_recipient_restrictions", "smtpd_sasl_auth_enable"),
    *("smtpd_sasl_authenticated_header", "smtpd_tls_ask_ccert", "smtpd_tls_auth_only", "smtpd_tls_received_header"),
    *("smtpd_tls_req_ccert", "smtpd_tls_wrappermode", "smtpd_use_tls", "smtpd_enforce_tls"),
)
# Of those that are a number or a time, with a unit or without one.
_NUMBERS = (
    *("access_map_defer_code", "access_map_reject_code", "message_size_limit", "queue_minfree", "reject_code"),
    *("relay_domains_reject_code", "smtpd_client_connection_count_limit", "smtpd_client_connection_rate_limit"),
    *("smtpd_client_message_rate_limit", "smtpd_client_recipient_rate_limit", "smtpd_hard_error_limit"),
    *("smtpd_junk_command_limit", "smtpd_policy_service_request_limit", "smtpd_policy_service_try_limit"),
    *("smtpd_recipient_limit", "smtpd_recipient_overshoot_limit", "smtpd_soft_error_limit"),
    *("unknown_client_reject_code", "unknown_local_recipient_reject_code"),
)
_TIMES = (
    *("milter_command_timeout", "milter_connect_timeout", "milter_content_timeout", "smtpd_error_sleep_time"),
    *("smtpd_policy_service_max_idle", "smtpd_policy_service_max_ttl", "smtpd_policy_service_retry_delay"),
    *("smtpd_policy_service_timeout", "smtpd_proxy_timeout", "smtpd_starttls_timeout", "smtpd_timeout"),
)
_NUMBER = re.compile(r"[+-]?\d+")
_ANY_TIME = re.compile(r"\+?\d+([smhdw].*)?")
_AGAINST_RELAYING = ("reject_unauth_destination", "defer_unauth_destination", "reject", "defer", "defer_if_permit")
_REQUIRED = frozenset({*_AGAINST_RELAYING, "check_relay_domains"})
_TIME = re.compile(r"\+?0*[1-9]\d*([smhdw].*)?")
# What may stand in the braces of a policy service, and how its value looks.
_ATTRIBUTES: Mapping[str, re.Pattern[str]] = {
    **dict.fromkeys(("timeout", "max_idle", "max_ttl", "retry_delay"), _TIME),
    "request_limit": re.compile(r"\+?\d+"),
    "try_limit": re.compile(r"\+?0*[1-9]\d*"),
    **dict.fromkeys(("default_action", "policy_context"), re.compile(r"(?s).+")),
}


def why_dead(service: Service) -> str:
    """Why smtpd ends at its start, or where it comes to a class; "" where nothing of its parameters says so."""
    reasons = chain(
        _wrong_switches(service),
        _wrong_numbers(service),
        _wrong_policy_services(service),
        _circles(service),
        _open_relay(service),
    )
    return next(reasons, "")


def lacks_relay_control(service: Service) -> bool:
    """Whether smtpd finds nothing in its lists that keeps strangers from relaying, and does not start."""
    return not any(_circles(service)) and any(_open_relay(service))


def _wrong_switches(service: Service) -> Iterator[str]:
    for name in _SWITCHES:
        value = service.values.get(name, "yes")
        if value.lower() not in ("yes", "no"):
            yield f"{name} = {value}, which is neither yes nor no: smtpd does not start."


def _wrong_numbers(service: Service) -> Iterator[str]:
    for names, pattern, what in ((_NUMBERS, _NUMBER, "number"), (_TIMES, _ANY_TIME, "time")):
        for name in names:
            value = service.values.get(name, "")
            if value and not pattern.fullmatch(value):
                yield f"{name} = {value}, which is no {what}: smtpd does not start."


def _wrong_policy_services(service: Service) -> Iterator[str]:
    """Words in braces that smtpd reads at its start, whatever they are for."""
    for name in (*LISTS, *classes_of(service)):
        for word, argument in pairwise(split_words(service.values.get(name, ""))):
            if word.lower() == ASK and argument.startswith("{") and (why := _why_wrong(argument)):
                yield f"In {name}, {ASK} {argument}: {why}. smtpd does not start."


def _why_wrong(argument: str) -> str:
    """What is wrong with a policy service in braces; "" where nothing is."""
    if not _is_closed(argument):
        return "its braces do not match"
    endpoint, *attributes = split_words(argument[1:-1]) or [""]
    if not endpoint:
        return "it names no policy service"
    for each in attributes:
        if each.startswith("{") and not _is_closed(each):
            return "its braces do not match"
        name, equals, value = (text.strip() for text in (without_braces(each) or each).partition("="))
        if not equals:
            return f"{each} is no pair of a name and a value; a value with blanks needs braces around the pair"
        if name not in _ATTRIBUTES:
            return f"Postfix knows no {name} there"
        if not _ATTRIBUTES[name].fullmatch(value):
            return f"{value or 'nothing'} is no value of {name}"
    return ""


def _is_closed(word: str) -> bool:
    """Whether the brace at the beginning of *word* is closed at its end, and not before."""
    depths, depth = [], 0
    for character in word:
        depth += {"{": 1, "}": -1}.get(character, 0)
        depths.append(depth)
    return depth == 0 and 0 not in depths[:-1]


def _circles(service: Service) -> Iterator[str]:
    """Restriction classes that a list leads to, and that lead to themselves."""
    classes = {name: split_words(service.values.get(name, "")) for name in classes_of(service)}
    done: set[str] = set()

    def follow(words: Iterable[str], within: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for word in words:
            if word in within:
                yield within[within.index(word) :]
            elif word in classes and word not in done:
                yield from follow(classes[word], (*within, word))
                done.add(word)

    for name in LISTS:
        for circle in follow(split_words(service.values.get(name, "")), ()):
            names = " -> ".join((*circle, circle[0]))
            yield f"{name} leads to a restriction class that names itself, {names}: smtpd goes round until it crashes."


def _open_relay(service: Service) -> Iterator[str]:
    classes = {name: split_words(service.values.get(name, "")) for name in classes_of(service)}
    if not any(_has_required(split_words(service.values.get(name, "")), classes) for name in (RECIPIENT, RELAY)):
        words = f"{', '.join(_AGAINST_RELAYING[:-1])} or {_AGAINST_RELAYING[-1]}"
        yield f"Neither {RELAY} nor {RECIPIENT} has one of {words}, before any permit: smtpd does not start."


def _has_required(words: Iterable[str], classes: Mapping[str, list[str]]) -> bool:
    """Whether a list that leads to no class twice has what keeps strangers from relaying, before any permit."""
    left = iter(words)
    for word in left:
        if word.lower() == WARN:
            next(left, None)
        elif word.lower() == "permit":
            return False
        elif word.lower() in _REQUIRED or _has_required(classes.get(word, ()), classes):
            return True
    return False
