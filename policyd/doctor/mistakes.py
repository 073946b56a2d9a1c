"""What Postfix does not understand of a configuration: then smtpd puts off mail, or ends before it says a word."""

import re
from collections.abc import Iterator
from shlex import quote

from policyd.doctor.diagnosis import Diagnosis
from policyd.doctor.examination import Examination
from policyd.doctor.maps import why_not_there
from policyd.doctor.networks import refused_networks
from policyd.doctor.postconf import Service
from policyd.doctor.repair import plan, relay_list
from policyd.doctor.restrictions import RECIPIENT, RELAY, access_tables, empty_classes, undeclared, wrong_arguments
from policyd.doctor.starting import lacks_relay_control, why_dead
from policyd.doctor.words import split_words


def diagnose_mistakes(examined: Examination) -> Iterator[Diagnosis]:
    """What is no restriction, no value and no option: in the lists, to postconf, and to a smtpd that starts."""
    yield from _of_lists(examined)
    yield from _of_names(examined)
    for service in examined.instance.smtpd:
        if service.stray:
            yield _cut(examined, service)
        else:
            yield from _dead(examined, service)


def _of_lists(examined: Examination) -> Iterator[Diagnosis]:
    """What smtpd does not understand where it comes to it: it puts off the mail."""
    instance = examined.instance
    for word in sorted(_unknown_words(examined)):
        classes = [*split_words(instance.values.get("smtpd_restriction_classes", "")), word]
        known = word in instance.unused
        yield Diagnosis(
            "class-undeclared",
            examined.about(word),
            f"A list has the word {word}, which is no restriction, and no class that smtpd_restriction_classes names.",
            (examined.postconf("-e", f"smtpd_restriction_classes = {', '.join(classes)}"),) if known else (),
            advice="" if known else "Take the word out of the list, or correct it.",
        )
    whole = [service for service in instance.smtpd if not service.stray]
    for what, wanted in sorted({each for service in whole for each in wrong_arguments(service)}):
        yield Diagnosis(
            "class-undeclared",
            examined.about(what),
            f"A list has {what}, where Postfix wants {wanted}.",
            advice="Correct it in the list.",
        )
    tables = dict.fromkeys(each for service in instance.smtpd for each in access_tables(service))
    for table in tables:
        if why := why_not_there(table, str(instance.folder)):
            told = f"{table}: {why}; Postfix puts off with 451 what comes to it in a list"
            examined.unseen.append(examined.about(told))
    for word in dict.fromkeys(
        each for service in instance.smtpd for each in refused_networks(service.values.get("mynetworks", ""))
    ):
        told = f"mynetworks: {word} is no network; Postfix puts off with 451 what is compared with it"
        examined.unseen.append(examined.about(told))


def _unknown_words(examined: Examination) -> set[str]:
    instance = examined.instance
    return {word for service in instance.smtpd for word in undeclared(service, instance.unused)}


def _of_names(examined: Examination) -> Iterator[Diagnosis]:
    """What postconf says of parameters."""
    instance = examined.instance
    unknown = _unknown_words(examined)
    for name in instance.undefined:
        yield _undefined(examined, name)
    for name in dict.fromkeys(each for service in instance.smtpd for each in empty_classes(service)):
        told = f"smtpd_restriction_classes names {name}, which has no value: smtpd ends before it says a word."
        yield Diagnosis(
            "undefined-parameter", examined.about(name), told, advice=f"Give {name} a value, or take it out."
        )
    for name in instance.set_twice:
        yield Diagnosis("parameter-set-twice", examined.about(name), f"main.cf has {name} twice.")
    for name, value in instance.unused.items():
        if name not in unknown:
            told = f"Nothing names the parameter {name}, which has the value {value!r}."
            fix = (examined.postconf("-#", name),) if name in instance.raw else ()
            yield Diagnosis("unused-parameter", examined.about(name), told, fix)


def _undefined(examined: Examination, name: str) -> Diagnosis:
    """Something names a parameter without a value."""
    using = [
        service
        for service in examined.instance.smtpd
        if any(re.search(rf"\$[({{]?{re.escape(name)}\b", value) for value in service.overrides.values())
    ]
    where = ", ".join(service.name for service in using) or "main.cf"
    commands: tuple[str, ...] = ()
    if name.endswith("recipient_restrictions") and using:
        commands = plan(examined, using[0])
    elif name.endswith("_restrictions"):
        commands = (examined.postconf("-e", f"{name} = permit_sasl_authenticated, reject"),)
        if re.search("helo|sender", name):
            commands = (examined.postconf("-e", f"{name} = "),)
    return Diagnosis(
        "undefined-parameter",
        examined.about(name),
        f"{where} names ${name}, which nobody has given a value.",
        (*commands, _restart(examined)) if commands else (),
        advice="" if commands else f"Give {name} a value in main.cf, or take it out.",
    )


def _dead(examined: Examination, service: Service) -> Iterator[Diagnosis]:
    """Why nobody will answer at a smtpd, as far as its parameters tell; what names nothing is told as that."""
    why = why_dead(service)
    is_open = lacks_relay_control(service)
    if not why or (is_open and _names_undefined(examined, service)):
        return
    commands = (relay_list(examined, service), _restart(examined)) if is_open else ()
    advice = "" if commands else "Correct it there; a person must say what was meant."
    yield Diagnosis("smtpd-dead", examined.about(service.name), why, commands, advice=advice)


def _names_undefined(examined: Examination, service: Service) -> bool:
    written = [service.overrides.get(name, examined.instance.raw.get(name, "")) for name in (RELAY, RECIPIENT)]
    return any(
        re.search(rf"\$[({{]?{re.escape(name)}\b", each) for name in examined.instance.undefined for each in written
    )


def _cut(examined: Examination, service: Service) -> Diagnosis:
    """Words of a command in master.cf that belong to no option."""
    last = service.arguments[: len(service.arguments) - len(service.stray)][-1:]
    name = last[0].partition("=")[0] if last else ""
    sentence = f"{service.name}: -o {name} ends at a blank, and {' '.join(service.stray[:3])} … are no options."
    commands = (*(plan(examined, service) if name == RECIPIENT else ()),)
    return Diagnosis(
        "value-cut",
        examined.about(f'{service.name}: -o {last[0] if last else ""} ends before "{service.stray[0]}"'),
        sentence,
        (*commands, _restart(examined)) if commands else (),
        advice="" if commands else f"Write it in braces in master.cf: -o {{ {name} = … }}.",
    )


def _restart(examined: Examination) -> str:
    """master takes a service that died at once up again only after a while; a start does it now."""
    where = "" if examined.is_default else f" -c {quote(str(examined.instance.folder))}"
    return f"postfix{where} stop; postfix{where} start"
