"""Where the check stands in the lists of each smtpd service, what passes before it, and the lines that put it right."""

import re
from collections.abc import Iterator

from policyd.doctor.diagnosis import Diagnosis
from policyd.doctor.endpoints import needs_socket_in
from policyd.doctor.examination import Examination, is_on_loopback
from policyd.doctor.networks import networks_in
from policyd.doctor.postconf import Service
from policyd.doctor.repair import plan
from policyd.doctor.restrictions import (
    DEFAULT_ACTION,
    RECIPIENT,
    RELAY,
    PolicyService,
    Question,
    is_at_recipient,
    is_relay_controlled_before,
    questions,
    refuses_all,
)

_LONG_SECONDS = 30
_PERMITTING = re.compile(r"(dunno|ok|permit\w*)\b", re.IGNORECASE)
_REJECTING = re.compile(r"(reject|5\d\d)\b", re.IGNORECASE)


def diagnose_placement(examined: Examination) -> Iterator[Diagnosis]:
    """What is wrong with the lists of every service."""
    for service in examined.instance.smtpd:
        if examined.is_reinjection(service):
            yield from _reinjection(examined, service)
        else:
            yield from _service(examined, service)


def meant_for_us(examined: Examination, service: Service) -> list[Question]:
    """Where *service* asks somebody else, and the daemon is meant; nowhere if it asks that, too."""
    if examined.asks(service):
        return []
    return [each for each in questions(service, examined.instance.unused) if examined.is_meant(each.asked)]


def _service(examined: Examination, service: Service) -> Iterator[Diagnosis]:
    """What is wrong at a service that people or other hosts send through."""
    asks = examined.asks(service)
    if refuses_all(service, examined.instance.unused):  # then nothing passes unasked
        yield from (each for each in _not_reached(examined, service, asks) if each.code == "check-after-reject")
        return
    places = asks or meant_for_us(examined, service)
    if not places:
        yield _missing(examined, service)
        return
    if asks:
        yield from _not_reached(examined, service, asks)
        yield from _twice(examined, service, asks)
        yield from _before_relay(examined, service, asks)
        yield from _context(examined, service, asks)
    yield from _attributes(examined, service, places)


def _missing(examined: Examination, service: Service) -> Diagnosis:
    """Nobody asks: since nobody said so, or since a list in master.cf replaces the one that does."""
    place = examined.about(service.name)
    main = examined.main_list_asks
    commands = plan(examined, service)
    settings: tuple[str, ...] = ()
    if added := needs_socket_in(examined.instance, examined.listen, is_chrooted=service.is_chrooted):
        listen = ", ".join(f'"{each}"' for each in (*(each.text for each in examined.listen), added))
        settings = (f"listen = [{listen}]",)
    if main and RECIPIENT in service.overrides:
        sentence = f"master.cf gives {service.name} a {RECIPIENT} of its own, without the check."
        return Diagnosis("check-overridden", place, sentence, commands, settings)
    sentence = f"Nobody asks policyd about mail on {service.name}."
    return Diagnosis("check-missing", place, sentence, commands, settings)


def _not_reached(examined: Examination, service: Service, asks: list[Question]) -> Iterator[Diagnosis]:
    """Why mail passes without a question, where no place is without such a reason."""
    at_recipient = [each for each in asks if is_at_recipient(each.list, service)]
    reasons = [_why_not_reached(each) for each in at_recipient]
    if at_recipient and None in reasons:
        yield from _after_access(examined, service, at_recipient)
        return
    commands = plan(examined, service)
    place = examined.about(service.name)
    for question, reason in zip(at_recipient, reasons, strict=True):
        if reason is not None:
            code, about, sentence = reason
            yield Diagnosis(code, f"{place}: {about or question.list}", sentence, commands)
    conditional = [each for each in asks if each.is_conditional]
    if not at_recipient and conditional:
        sentence = (
            f"Only a table leads to the {conditional[0].list}: policyd is asked for the keys of that table alone."
        )
        yield Diagnosis("check-conditional", f"{place}: {conditional[0].list}", sentence, commands)
    elif not at_recipient:
        lists = ", ".join(dict.fromkeys(each.list for each in asks))
        sentence = f"{service.name} asks policyd in {lists}, where Postfix knows no recipient, or only a single one."
        yield Diagnosis("check-wrong-stage", f"{place}: {lists}", sentence, commands)


def _why_not_reached(question: Question) -> tuple[str, str, str] | None:
    """The code, what it is about, and the sentence; None where the check is reached."""
    if question.is_rejected_before:
        return "check-after-reject", "", f"In {question.list} a reject stands before the check: it is never reached."
    if question.permits:
        words = ", ".join(question.permits)
        sentence = f"In {question.list}, whoever matches {words} is let through before policyd is asked."
        if "permit" in question.permits:
            sentence = f"In {question.list}, everybody is let through before policyd is asked: permit stands before it."
        return "check-after-permit", words, sentence
    if question.is_warn_only:
        return "check-warn-only", "", f"In {question.list}, warn_if_reject stands before the check: it refuses nothing."
    return None


def _after_access(examined: Examination, service: Service, asks: list[Question]) -> Iterator[Diagnosis]:
    """Tables and services before the check that may end the list; only where each place has one."""
    reached = [each for each in asks if _why_not_reached(each) is None]
    doubts = [[step for step in each.maybe_permits if examined.may_permit(step)] for each in reached]
    if not all(doubts):
        return
    for question, steps in zip(reached, doubts, strict=True):
        for step in steps:
            what = f"{step.word} {step.argument}".rstrip()
            row = examined.permitting_row(step)
            told = f" The row {row} does." if row else ""
            yield Diagnosis(
                "check-after-access",
                examined.about(f"{service.name}: {what}"),
                f"In {question.list}, {what} stands before the check, and may end the list.{told}",
                plan(examined, service),
            )


def _twice(examined: Examination, service: Service, asks: list[Question]) -> Iterator[Diagnosis]:
    places = [each.list for each in asks if not each.is_conditional]
    if len(places) < 2:
        return
    lists = ", ".join(dict.fromkeys(places))
    yield Diagnosis(
        "check-twice",
        examined.about(f"{service.name}: {lists}"),
        f"{service.name} asks policyd {len(places)} times about each recipient: in {lists}.",
        plan(examined, service),
    )


def _before_relay(examined: Examination, service: Service, asks: list[Question]) -> Iterator[Diagnosis]:
    """Strangers' attempts to relay are asked about."""
    if not examined.is_mx(service):
        return
    early = [
        each
        for each in asks
        if is_at_recipient(each.list, service)
        and _why_not_reached(each) is None
        and not each.is_relay_controlled
        and not is_relay_controlled_before(each.list, service, examined.instance.unused)
    ]
    if not early:
        return
    lists = ", ".join(dict.fromkeys(each.list for each in early))
    yield Diagnosis(
        "check-before-relay",
        examined.about(f"{service.name}: {lists}"),
        f"{service.name} asks policyd in {lists} before Postfix has looked whether it may relay.",
        plan(examined, service),
    )


def _context(examined: Examination, service: Service, asks: list[Question]) -> Iterator[Diagnosis]:
    for question in asks:
        context = question.asked.value("policy_context", service)
        if context in examined.settings.insider_contexts and examined.is_mx(service):
            yield Diagnosis(
                "context-open",
                examined.about(f"{service.name}: policy_context={context}"),
                f"{service.name} takes mail from strangers and says policy_context={context}, which is one of the "
                "insider_contexts.",
                plan(examined, service),
            )
            return


def _attributes(examined: Examination, service: Service, places: list[Question]) -> Iterator[Diagnosis]:
    """What happens at this service when policyd is slow or away."""
    seen: set[str] = set()
    for question in places:
        for found in _of_service(examined, service, question.asked):
            if found.code not in seen:
                seen.add(found.code)
                yield found


def _of_service(examined: Examination, service: Service, asked: PolicyService) -> Iterator[Diagnosis]:
    place = examined.about(service.name)
    commands = plan(examined, service)
    action = asked.value("default_action", service)
    if _PERMITTING.match(action):
        told = f"{service.name} takes default_action = {action} when policyd is away: everything passes."
        yield Diagnosis("default-action-permits", place, told, commands)
    elif _REJECTING.match(action):
        told = f"{service.name} takes default_action = {action} when policyd is away: good mail is refused for good."
        yield Diagnosis("default-action-rejects", place, told, commands)
    elif action == DEFAULT_ACTION and "default_action" not in asked.attributes:
        told = f"{service.name} names no default_action: Postfix's own is {action}."
        yield Diagnosis("default-action-implicit", place, told, commands)

    timeout = asked.seconds("timeout", service)
    if timeout is not None and timeout > _LONG_SECONDS:
        told = f"{service.name} waits {timeout} s for an answer of policyd."
        yield Diagnosis("timeout-long", f"{place}: {timeout}s", told, commands)
    if asked.value("try_limit", service) == "1":
        told = "smtpd_policy_service_try_limit = 1: Postfix gives up at the first trouble."
        is_global = "try_limit" not in asked.attributes
        fix = (examined.postconf("-#", "smtpd_policy_service_try_limit"),) if is_global else commands
        yield Diagnosis("try-limit-one", f"{place}: smtpd_policy_service_try_limit", told, fix)
    idle = asked.seconds("max_idle", service)
    if idle is not None and idle > examined.settings.idle_seconds:
        told = (
            f"policyd closes a connection after {examined.settings.idle_seconds} s without a question, and Postfix "
            f"keeps it for {idle} s."
        )
        yield Diagnosis("idle-shorter", place, told, settings=(f"idle_seconds = {2 * idle}",))


def _reinjection(examined: Examination, service: Service) -> Iterator[Diagnosis]:
    """What is wrong at a service that takes mail back from a content filter."""
    place = examined.about(service.name)
    reached = [each for each in examined.asks(service) if _why_not_reached(each) is None]
    if reached:
        told = f"{service.name} takes mail back from a content filter, and asks policyd once more."
        yield Diagnosis("reinjection-asks-again", place, told, plan(examined, service))
        return
    if is_on_loopback(service) or examined.asks(service):
        return
    wide = [each for each in networks_in(service.values.get("mynetworks", ""))[0] if not each.is_loopback]
    let_in = set(examined.lets_in(service, RECIPIENT)) | set(examined.lets_in(service, RELAY))
    who = "everybody" if "permit" in let_in or not let_in else ", ".join(map(str, wide))
    if not who or examined.lets_nobody_in(service):
        return
    host = service.endpoint.rpartition(":")[0]
    commands = () if host else (examined.postconf("-P", f"{service.name}/mynetworks=127.0.0.0/8"),)
    advice = f"Better still, let it listen on loopback alone: 127.0.0.1:{service.port} in master.cf."
    if host:  # where a filter on another host is to come in
        advice = f"Let its mynetworks be the filter's address alone, or have it listen at 127.0.0.1:{service.port}."
    yield Diagnosis(
        "reinjection-open",
        f"{place}: {who}",
        f"{service.name} takes mail back from a content filter and listens {f'at {host}' if host else 'everywhere'}: "
        f"{who} gets past policyd there.",
        commands,
        advice=advice,
    )
