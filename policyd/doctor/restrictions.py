"""Follows the restriction lists of a smtpd as Postfix does, to where a policy service is asked. Pure.

Source: generic_checks() in Postfix's smtpd_check.c; postconf(5), smtpd_recipient_restrictions;
RESTRICTION_CLASS_README.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from policyd.doctor.postconf import Service
from policyd.doctor.words import is_table, split_words, without_braces

CLIENT, HELO, SENDER = "smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions"
RELAY, RECIPIENT = "smtpd_relay_restrictions", "smtpd_recipient_restrictions"
DATA, END_OF_DATA = "smtpd_data_restrictions", "smtpd_end_of_data_restrictions"
AT_RECIPIENT = (CLIENT, HELO, SENDER, RELAY, RECIPIENT)
LISTS = (*AT_RECIPIENT, DATA, END_OF_DATA)
DEFAULT_ACTION = "451 4.3.5 Server configuration problem"  # Postfix's own
ASK, WARN = "check_policy_service", "warn_if_reject"

# What smtpd knows, by whether a word follows that belongs to it; all of it in any case.
_SERVERS = "(client|helo|sender|recipient|reverse_client_hostname)"
_WITH_ARGUMENT = re.compile(
    rf"check_{_SERVERS}(_mx|_ns|_a)?_access|check_(ccert|sasl|etrn)_access|check_policy_service|"
    r"reject_rbl(_client)?|reject_rhsbl_(client|reverse_client|helo|sender|recipient)|"
    r"permit_(dnswl|rhswl)_client|sleep",
    re.IGNORECASE,
)
_WITHOUT = re.compile(
    r"permit(_auth_destination|_inet_interfaces|_mx_backup|_mynetworks|_naked_ip_address|_sasl_authenticated|"
    r"_tls_all_clientcerts|_tls_clientcerts)?|defer(_if_permit|_if_reject|_unauth_destination)?|warn_if_reject|"
    r"check_(recipient_maps|relay_domains)|reject(_(authenticated|known|unauthenticated)_sender_login_mismatch|"
    r"_sender_login_mismatch|_(invalid|unknown|non_fqdn)(_helo)?_hostname|_non_fqdn_(sender|recipient)|"
    r"_unknown_(sender|recipient)_domain|_unknown_address|_unknown_client|"
    r"_unknown_(|reverse_|forward_)client_hostname|_(unlisted|unverified)_(sender|recipient)|_maps_rbl|"
    r"_multi_recipient_bounce|_plaintext_session|_unauth_(destination|pipelining))?",
    re.IGNORECASE,
)
_ACCESS = re.compile(r"check_\w+_access", re.IGNORECASE)
# Those that look up the name of a server may not answer OK: smtpd puts the mail off then.
_MAY_PERMIT = re.compile(
    r"check_(?!reverse_)(?!\w+_(mx|ns|a)_access)\w+_access|check_policy_service|permit_(dnswl|rhswl)_\w+", re.IGNORECASE
)
_RELAY_CONTROL = frozenset({"reject_unauth_destination", "defer_unauth_destination", "check_relay_domains"})
_FOR_STRANGERS = frozenset({"permit", "permit_auth_destination", "permit_mx_backup", "check_relay_domains"})
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_YES = "yes"


class Step(NamedTuple):
    """A restriction of a list, in lower case, with its argument; `classes` are those in which it stands."""

    word: str
    argument: str = ""
    is_warn_only: bool = False
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyService:
    """A policy service as a list names it: `unix:…` or `inet:…`, and what is said in the braces."""

    endpoint: str
    attributes: Mapping[str, str]

    def value(self, name: str, service: Service) -> str:
        """What counts for *name*, as `timeout`, where *service* asks."""
        return self.attributes.get(name, service.values.get(f"smtpd_policy_service_{name}", ""))

    def seconds(self, name: str, service: Service) -> int | None:
        """The time that counts for *name*; None where it can't be read."""
        match = re.fullmatch(r"(\d+)([smhdw]?)", self.value(name, service).strip())
        return int(match[1]) * _UNIT_SECONDS[match[2] or "s"] if match else None


@dataclass(frozen=True, slots=True)
class Question:
    """A place where smtpd asks a policy service: in which list, and what stands before it there.

    `permits` let mail pass for certain, of those that match; `maybe_permits` are steps of which nobody knows that
    without their tables. `is_conditional` says that only a table leads there.
    """

    list: str
    asked: PolicyService
    permits: tuple[str, ...] = ()
    maybe_permits: tuple[Step, ...] = ()
    is_rejected_before: bool = False
    is_relay_controlled: bool = False
    is_warn_only: bool = False
    is_conditional: bool = False


def is_delayed(service: Service) -> bool:
    """Whether the lists for client, HELO and MAIL wait for RCPT."""
    return service.values.get("smtpd_delay_reject", _YES) == _YES


def is_relay_first(service: Service) -> bool:
    """Whether the list for relaying comes before the one for recipients."""
    return service.values.get("smtpd_relay_before_recipient_restrictions", "no") == _YES


def is_at_recipient(name: str, service: Service) -> bool:
    """Whether the list *name* is looked at when a recipient is known."""
    return name in (RELAY, RECIPIENT) or (name in (CLIENT, HELO, SENDER) and is_delayed(service))


def is_relay_controlled_before(name: str, service: Service, unused: Mapping[str, str]) -> bool:
    """Whether strangers that want to relay are refused in a list that comes before the list *name*."""
    last = (RELAY, RECIPIENT) if is_relay_first(service) else (RECIPIENT, RELAY)
    order = [*((CLIENT, HELO, SENDER) if is_delayed(service) else ()), *last]
    before = order[: order.index(name)] if name in order else []
    if RELAY in before and split_words(service.values.get(RELAY, "")):
        return True
    steps = (step for each in before for step in walk(each, service, unused))
    return any(step.word in _RELAY_CONTROL and not step.is_warn_only for step in steps)


def classes_of(service: Service) -> list[str]:
    """The restriction classes that are declared."""
    return split_words(service.values.get("smtpd_restriction_classes", ""))


def empty_classes(service: Service) -> list[str]:
    """The restriction classes that are declared and have no value: smtpd ends where there is one."""
    return [each for each in classes_of(service) if not split_words(service.values.get(each, ""))]


def undeclared(service: Service, unused: Mapping[str, str]) -> list[str]:
    """Words of the lists that are neither a restriction nor a declared class; *unused* are parameters without use."""
    declared = classes_of(service)
    values = [service.values.get(name, "") for name in (*LISTS, *declared)]
    words = [step.word for value in values for step in _steps(value, {}, ())]
    return [
        word
        for word in dict.fromkeys(words)
        if word not in declared and not is_table(word) and (word in unused or not _is_restriction(word))
    ]


def wrong_arguments(service: Service) -> Iterator[tuple[str, str]]:
    """Restrictions with an argument that is none, or with a table where Postfix looks for none; and what it wants."""
    for name in (*LISTS, *classes_of(service)):
        value = service.values.get(name, "")
        for step in _steps(value, {}, ()):
            what = f"{step.word} {step.argument}".rstrip()
            if _ACCESS.fullmatch(step.word) and ":" not in step.argument:
                yield what, "a table, as hash:/etc/postfix/access"
            elif step.word == ASK and ":" not in step.argument:
                yield what, "a policy service, as unix:policyd/policyd.sock"
            elif step.word == "sleep" and not step.argument.isdecimal():
                yield what, "a number of seconds"
        for before, word in pairwise(["", *split_words(value)]) if name in (DATA, END_OF_DATA) else ():
            if is_table(word) and not _WITH_ARGUMENT.fullmatch(before):
                yield word, f"check_recipient_access, or the like, in front of it in {name}"


def access_tables(service: Service) -> Iterator[str]:
    """The tables that are looked in when smtpd comes to them."""
    for name in (*LISTS, *classes_of(service)):
        for step in _steps(service.values.get(name, ""), {}, ()):
            if _ACCESS.fullmatch(step.word) and is_table(step.argument):
                yield step.argument


def _is_restriction(word: str) -> bool:
    """Whether smtpd knows *word*, whatever Postfix's version."""
    return bool(_WITH_ARGUMENT.fullmatch(word) or _WITHOUT.fullmatch(word))


def walk(name: str, service: Service, unused: Mapping[str, str]) -> list[Step]:
    """The steps of the list or class *name* of *service*, those of its classes in their place.

    *unused* are parameters without use: what stands there as a class is followed, though Postfix does not know it.
    """
    values = {word: service.values.get(word, "") for word in classes_of(service)} | dict(unused)
    return list(_steps(service.values.get(name, ""), values, ()))


def _steps(value: str, classes: Mapping[str, str], within: tuple[str, ...], *, warns: bool = False) -> Iterator[Step]:
    words = iter(split_words(value))
    is_warn_only = warns
    for word in words:
        if word.lower() == WARN:
            is_warn_only = True
            continue
        if word in classes:
            if word not in within:
                yield from _steps(classes[word], classes, (*within, word), warns=is_warn_only)
        elif is_table(word):
            yield Step("check_recipient_access", word, is_warn_only, within)
        else:
            argument = next(words, "") if _WITH_ARGUMENT.fullmatch(word) else ""
            known = word.lower() if _is_restriction(word) else word
            yield Step(known, argument, is_warn_only, within)
        is_warn_only = warns


def questions(service: Service, unused: Mapping[str, str]) -> list[Question]:
    """Every place where *service* asks a policy service, in the order of its lists."""
    found: list[Question] = []
    walked: set[str] = set()
    has_tables = False
    for name in LISTS:
        steps = walk(name, service, unused)
        found += _questions_in(name, steps, service)
        walked |= {each for step in steps for each in step.classes}
        has_tables = has_tables or any(_MAY_PERMIT.fullmatch(step.word) and step.word != ASK for step in steps)

    # A table's right-hand side may name a class: then only what the table has is asked about.
    for name in classes_of(service) if has_tables else ():
        if name not in walked:
            steps = walk(name, service, unused)
            found += [
                Question(f"class {name}", parse_policy_service(step.argument), is_conditional=True)
                for step in steps
                if step.word == ASK
            ]
    return found


def _questions_in(name: str, steps: list[Step], service: Service) -> Iterator[Question]:
    for number, step in enumerate(steps):
        if step.word != ASK or not step.argument:
            continue
        before = steps[:number]
        words = [each.word for each in before]
        yield Question(
            name,
            parse_policy_service(step.argument),
            permits=tuple(dict.fromkeys(each.word for each in before if permits(each, service))),
            maybe_permits=tuple(each for each in before if _MAY_PERMIT.fullmatch(each.word)),
            is_rejected_before=any(each.word in ("reject", "defer") and not each.is_warn_only for each in before),
            is_relay_controlled=not _RELAY_CONTROL.isdisjoint(words),
            is_warn_only=step.is_warn_only,
        )


def permits(step: Step, service: Service) -> bool:
    """Whether *step* lets some mail pass *service* for certain, without any more of its list."""
    values = service.values
    match step.word:
        case "permit_sasl_authenticated":
            return values.get("smtpd_sasl_auth_enable", "no") == _YES
        case "permit_mynetworks":
            return bool(values.get("mynetworks", "").strip())
        case "permit_tls_clientcerts":
            return _asks_for_certificates(service) and bool(values.get("relay_clientcerts", "").strip())
        case "permit_tls_all_clientcerts":
            return _asks_for_certificates(service)
        case "check_relay_domains":
            return True
        case word:
            return bool(re.fullmatch(r"permit(_\w+)?", word)) and not _MAY_PERMIT.fullmatch(word)


def _asks_for_certificates(service: Service) -> bool:
    return _YES in (service.values.get("smtpd_tls_ask_ccert"), service.values.get("smtpd_tls_req_ccert"))


def parse_policy_service(argument: str) -> PolicyService:
    """The policy service that an argument of check_policy_service names."""
    inside = without_braces(argument)
    if inside is None:
        return PolicyService(argument, {})
    endpoint, *attributes = split_words(inside) or [""]
    pairs = [(without_braces(each) or each).partition("=") for each in attributes]
    return PolicyService(endpoint, {name.strip(): value.strip() for name, _, value in pairs})


def without_questions(
    value: str, service: Service, unused: Mapping[str, str], is_ours: Callable[[PolicyService], bool]
) -> list[str]:
    """The restrictions of a list, each with its argument, without those that ask *is_ours*.

    A class that asks is replaced by what else is in it.
    """
    values = {word: service.values.get(word, "") for word in classes_of(service)} | dict(unused)
    return _without(value, values, is_ours, ())


def _without(
    value: str, classes: Mapping[str, str], is_ours: Callable[[PolicyService], bool], within: tuple[str, ...]
) -> list[str]:
    kept: list[str] = []
    words = iter(split_words(value))
    prefix = ""
    for word in words:
        if word.lower() == WARN:
            prefix = f"{word} "
            continue
        argument = next(words, "") if _WITH_ARGUMENT.fullmatch(word) else ""
        if word in classes and word not in within and _asks(classes[word], classes, is_ours, (*within, word)):
            kept += [f"{prefix}{each}" for each in _without(classes[word], classes, is_ours, (*within, word))]
        elif word.lower() != ASK or (argument and not is_ours(parse_policy_service(argument))):
            kept.append(f"{prefix}{word} {argument}".rstrip())
        prefix = ""
    return kept


def _asks(
    value: str, classes: Mapping[str, str], is_ours: Callable[[PolicyService], bool], within: tuple[str, ...]
) -> bool:
    return any(
        step.word == ASK and is_ours(parse_policy_service(step.argument)) for step in _steps(value, classes, within)
    )


def refuses_all(service: Service, unused: Mapping[str, str]) -> bool:
    """Whether some list refuses whatever mail there is: a reject stands in it before all that permits, or may."""
    for name in AT_RECIPIENT:
        for step in walk(name, service, unused):
            if step.word in ("reject", "defer") and not step.is_warn_only:
                return True
            if permits(step, service) or _MAY_PERMIT.fullmatch(step.word):
                break
    return False


def keeps_strangers_out(name: str, service: Service, unused: Mapping[str, str]) -> bool:
    """Whether a list ends in a reject, and nothing before lets in whoever writes to this host."""
    for step in walk(name, service, unused):
        if step.word in _FOR_STRANGERS:
            return False
        if step.word in ("reject", "defer") and not step.is_warn_only:
            return True
    return False
