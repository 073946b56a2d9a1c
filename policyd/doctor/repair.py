"""The lines that put a service right: the check first in its list for recipients, and in no other list."""

import re

from policyd.doctor.examination import Examination
from policyd.doctor.postconf import Service
from policyd.doctor.restrictions import (
    ASK,
    LISTS,
    RECIPIENT,
    RELAY,
    is_relay_first,
    keeps_strangers_out,
    without_questions,
)
from policyd.doctor.words import split_words

_RELAY_FIRST = "smtpd_relay_before_recipient_restrictions"
_RELAY_FIRST_SINCE = (3, 6)
_MUA = "mua_recipient_restrictions"
_MX_REST = ("permit_mynetworks", "permit_sasl_authenticated", "reject_unauth_destination")
_MUA_REST = ("permit_sasl_authenticated", "reject")
_NAME = re.compile(r"\$[({]?(\w+)[)}]?")


def plan(examined: Examination, service: Service) -> tuple[str, ...]:
    """The commands after which *service* asks once about each recipient, before anything permits, and as insiders may.

    Each check of a service gives the same ones, so that whoever types them twice changes nothing more.
    """
    if examined.is_reinjection(service):
        emptied = [each.list for each in examined.asks(service) if each.list in LISTS and each.list != RECIPIENT]
        values = {RECIPIENT: "permit_mynetworks,reject", **dict.fromkeys(emptied, "")}
        return tuple(examined.postconf("-P", f"{service.name}/{name}={value}") for name, value in values.items())
    commands = [*_recipient_list(examined, service)]
    for name in LISTS:
        if name != RECIPIENT:
            commands += _without_check(examined, service, name)
    if examined.is_mx(service):
        commands += _relay_control(examined, service)
    return tuple(commands)


def _recipient_list(examined: Examination, service: Service) -> list[str]:
    """Put the check first in the list for recipients."""
    is_submission = examined.is_submission(service)
    check = examined.check(service, is_submission=is_submission)
    rest = _rest(examined, service, is_submission=is_submission)
    value = ", ".join([check, *rest])
    if _is_in_main(examined, service):
        return [examined.postconf("-e", f"{RECIPIENT} = {value}")]
    name = _own_parameter(service, is_submission=is_submission)
    set_it = examined.postconf("-e", f"{name} = {value}")
    if service.stray:
        return [set_it, _whole_command(examined, service, f"{RECIPIENT}=${name}")]
    return [set_it, examined.postconf("-P", f"{service.name}/{RECIPIENT}=${name}")]


def _is_in_main(examined: Examination, service: Service) -> bool:
    """Whether the list of main.cf is the one to change: it is this service's, and those that share it are alike."""
    if RECIPIENT in service.overrides:
        return False
    sharing = [each for each in examined.instance.smtpd if RECIPIENT not in each.overrides]
    return not examined.is_submission(service) or all(map(examined.is_submission, sharing))


def _rest(examined: Examination, service: Service, *, is_submission: bool) -> list[str]:
    """What comes behind the check: the list as it is, as far as it is whole and this service's own."""
    own = RECIPIENT in service.overrides
    if service.stray or (is_submission and not own and not _is_in_main(examined, service)):
        return [*_MUA_REST]
    rest = _kept(examined, service, RECIPIENT)
    if is_submission:
        return rest if keeps_strangers_out(RECIPIENT, service, examined.instance.unused) else [*rest, *_mua_rest(rest)]
    return rest or [*_MX_REST]


def _mua_rest(before: list[str]) -> list[str]:
    return [word for word in _MUA_REST if word not in before]


def _kept(examined: Examination, service: Service, name: str) -> list[str]:
    """The restrictions of a list of *service* without the check; as they are written where that shows the check."""
    unused = examined.instance.unused
    is_to_go = examined.is_to_go(service)
    expanded = without_questions(service.values.get(name, ""), service, unused, is_to_go)
    written = service.overrides.get(name, examined.instance.raw.get(name, ""))
    as_written = without_questions(written, service, unused, is_to_go)
    has_all = _number_of_checks(written, as_written) == _number_of_checks(service.values.get(name, ""), expanded)
    return as_written if has_all and name not in service.overrides else expanded


def _number_of_checks(value: str, kept: list[str]) -> int:
    return value.lower().count(ASK) - sum(each.lower().count(ASK) for each in kept)


def _own_parameter(service: Service, *, is_submission: bool) -> str:
    """The parameter of main.cf for the list of one service: the one that it names already, or a new one."""
    match = _NAME.fullmatch(service.overrides.get(RECIPIENT, "").strip())
    if match and match[1] != RECIPIENT:
        return match[1]
    if is_submission:
        return _MUA
    return f"{re.sub(r'[^a-z0-9]+', '_', service.endpoint.lower()).strip('_')}_recipient_restrictions"


def _without_check(examined: Examination, service: Service, name: str) -> list[str]:
    """Take the check out of the list *name*."""
    if not any(each.list == name for each in examined.asks(service)):
        return []
    rest = ", ".join(_kept(examined, service, name))
    if name in service.overrides:
        if re.search(r"\s", rest):
            own = f"{re.sub(r'[^a-z0-9]+', '_', service.endpoint.lower()).strip('_')}_{name.removeprefix('smtpd_')}"
            return [
                examined.postconf("-e", f"{own} = {rest}"),
                examined.postconf("-P", f"{service.name}/{name}=${own}"),
            ]
        return [examined.postconf("-P", f"{service.name}/{name}={rest}")]
    return [examined.postconf("-e", f"{name} = {rest}") if rest else examined.postconf("-X", name)]


def _relay_control(examined: Examination, service: Service) -> list[str]:
    """Have Postfix look whether it may relay before it asks."""
    if is_relay_first(service) and split_words(service.values.get(RELAY, "")):
        return []
    commands = []
    if not split_words(service.values.get(RELAY, "")):
        commands.append(relay_list(examined, service))
    if examined.instance.version >= _RELAY_FIRST_SINCE and not is_relay_first(service):
        commands.append(examined.postconf("-e", f"{_RELAY_FIRST}=yes"))
    return commands


def relay_list(examined: Examination, service: Service) -> str:
    """The command that gives *service* the usual list for relaying."""
    if RELAY in service.overrides:
        return examined.postconf("-P", f"{service.name}/{RELAY}={','.join(_MX_REST)}")
    return examined.postconf("-e", f"{RELAY} = {', '.join(_MX_REST)}")


def _whole_command(examined: Examination, service: Service, override: str) -> str:
    """The command of a service whose words got apart, with *override* in place of the option that was cut."""
    options = list(service.arguments[: len(service.arguments) - len(service.stray)])
    if options and options[-1].partition("=")[0] == override.partition("=")[0]:
        options[-1] = override
    stray = list(service.stray)
    if "-o" in stray:
        options += stray[stray.index("-o") :]
    return examined.postconf("-F", f"{service.name}/command={' '.join([service.command, *options])}")
