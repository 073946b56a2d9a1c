"""What the checks share: what is examined, and what could not be looked at."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from shlex import quote

from policyd.doctor.aliases import Aliases
from policyd.doctor.endpoints import host_and_port, relative_endpoint, service_of, wanted_endpoint
from policyd.doctor.maps import Listings, permitting_row
from policyd.doctor.networks import networks_in
from policyd.doctor.postconf import Instance, Service
from policyd.doctor.restrictions import (
    AT_RECIPIENT,
    RECIPIENT,
    RELAY,
    PolicyService,
    Question,
    Step,
    keeps_strangers_out,
    permits,
    questions,
    walk,
)
from policyd.endpoint import Endpoint, is_loopback
from policyd.settings import Settings

SUBMISSION_CONTEXT, INBOUND_CONTEXT = "submission", "inbound"
_NAMED_POLICYD = re.compile(r"(^|[/:])policyd([/.]|$)")
# postgrey, Dovecot's quota-status, SQLgrey, iRedAPD, policyd-weight, Proxmox and Modoboa, as their manuals have them.
_PORTS_OF_OTHERS = frozenset({10023, 12340, 2501, 7777, 12525, 10022, 9999})
_PORTS_OF_STRANGERS = frozenset({"smtp", "25"})
_NAMED_OTHERWISE = re.compile("gr[ea]y|spf|quota|weight|iredapd|postfwd|dovecot|rate|cluebringer", re.IGNORECASE)


@dataclass
class Examination:
    """One Postfix instance with the settings.

    `is_default` says that postconf finds it without being told where it is, `is_further` that another one starts it.
    `dead` are endpoints of policy services at which nobody answers; `unseen` collects what could not be looked at, each
    with the reason. `gateways` are networks of insiders that look like a container's, each with its gateway. `domains`
    are those that parameters list, as they were found; of those that are `incomplete`, some could not be looked at.
    """

    instance: Instance
    settings: Settings
    listen: tuple[Endpoint, ...]
    is_default: bool = True
    is_further: bool = False
    settings_file: Path = Path("/etc/policyd/policyd.toml")
    unseen: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    gateways: tuple[tuple[str, str], ...] = ()
    domains: dict[str, list[str]] = field(default_factory=dict)
    incomplete: set[str] = field(default_factory=set)

    def about(self, place: str) -> str:
        """*place*, in front of it the instance's name where there are several."""
        name = self.instance.values.get("multi_instance_name", "")
        return f"{name}: {place}" if name else place

    def postconf(self, option: str, *words: str) -> str:
        """The command line with which a person changes this instance."""
        where = [] if self.is_default else ["-c", str(self.instance.folder)]
        return " ".join(["postconf", *map(quote, where), option, *map(quote, words)])

    def is_ours(self, asked: PolicyService) -> bool:
        """Whether a policy service is the daemon of the settings."""
        return relative_endpoint(asked.endpoint, self.instance, self.listen) is not None

    def is_meant(self, asked: PolicyService) -> bool:
        """Whether a policy service that is not the daemon was meant for it: by its name, or since nobody answers.

        What other programs are known for is theirs, also where they do not run.
        """
        port, service = host_and_port(asked.endpoint), service_of(asked.endpoint, self.instance)
        if self.is_ours(asked) or service is not None or (port is not None and port[1] in _PORTS_OF_OTHERS):
            return False
        if _NAMED_POLICYD.search(asked.endpoint):
            return True
        return asked.endpoint in self.dead and not _NAMED_OTHERWISE.search(asked.endpoint)

    def is_to_go(self, service: Service) -> Callable[[PolicyService], bool]:
        """Which policy services the check of *service* stands in for, where it is put right."""
        return self.is_ours if self.asks(service) else lambda asked: self.is_ours(asked) or self.is_meant(asked)

    @cached_property
    def aliases(self) -> Aliases:
        """Postfix's virtual aliases."""
        return Aliases(self.instance, self.listings, self.unseen)

    @cached_property
    def listings(self) -> Listings:
        """The rows of Postfix's tables."""
        return Listings(str(self.instance.folder))

    def domain_target(self, name: str) -> str:
        """The domain to which all mail for the domain *name* goes on, "" where that is none."""
        target = self.aliases.exact(f"@{name}")
        return target[1:] if target.startswith("@") else ""

    @cached_property
    def main_list_asks(self) -> bool:
        """Whether the list for recipients in main.cf asks the daemon."""
        values = self.instance.values
        main = Service("main.cf/", "smtpd", (), is_chrooted=False, stray=(), overrides={}, values=values)
        return any(each.list == RECIPIENT for each in self.asks(main))

    def asks(self, service: Service) -> list[Question]:
        """Where *service* asks the daemon."""
        return [each for each in questions(service, self.instance.unused) if self.is_ours(each.asked)]

    def check(self, service: Service, *, is_submission: bool) -> str:
        """The restriction that asks the daemon, as it should stand in a list."""
        wanted = wanted_endpoint(self.instance, self.listen, is_chrooted=service.is_chrooted)
        context = SUBMISSION_CONTEXT if is_submission else INBOUND_CONTEXT
        return (
            f"check_policy_service {{ {wanted}, timeout=5s, "
            f"{{ default_action = 451 4.3.5 policy service unavailable }}, policy_context={context} }}"
        )

    def is_submission(self, service: Service) -> bool:
        """Whether only those who log in, or are in a network, can send through *service*."""
        unused = self.instance.unused
        for name in AT_RECIPIENT:
            words = {step.word for step in walk(name, service, unused)}
            if keeps_strangers_out(name, service, unused) and "permit_sasl_authenticated" in words:
                return True
        return False

    def is_reinjection(self, service: Service) -> bool:
        """Whether *service* takes mail back from a content filter."""
        if self.is_submission(service) or service.port in _PORTS_OF_STRANGERS:
            return False
        if "" in (service.overrides.get("content_filter"), service.overrides.get("smtpd_proxy_filter")):
            return True
        steps = walk(RECIPIENT, service, self.instance.unused)
        return is_on_loopback(service) and [step.word for step in steps] == ["permit_mynetworks", "reject"]

    def is_mx(self, service: Service) -> bool:
        """Whether strangers send mail through *service*."""
        unused = self.instance.unused
        return (
            not self.is_submission(service)
            and not self.is_reinjection(service)
            and not any(keeps_strangers_out(name, service, unused) for name in AT_RECIPIENT)
        )

    def may_permit(self, step: Step) -> bool:
        """Whether a table or a service that stands before the check may end the list, as far as its rows tell."""
        return (
            step.word == "check_policy_service" or permitting_row(step.argument, str(self.instance.folder)) is not None
        )

    def permitting_row(self, step: Step) -> str:
        """A row of a table that lets mail pass, "" where none is known."""
        if not step.word.endswith("_access"):
            return ""
        return permitting_row(step.argument, str(self.instance.folder)) or ""

    def lets_nobody_in(self, service: Service) -> bool:
        """Whether *service* takes nothing from another machine."""
        wide = [each for each in networks_in(service.values.get("mynetworks", ""))[0] if not each.is_loopback]
        let_in = {*self.lets_in(service, RECIPIENT), *self.lets_in(service, RELAY)}
        unused = self.instance.unused
        closed = any(keeps_strangers_out(name, service, unused) for name in (RELAY, RECIPIENT))
        return closed and not ("permit" in let_in or ("permit_mynetworks" in let_in and wide))

    def lets_in(self, service: Service, name: str) -> tuple[str, ...]:
        """What permits in the list *name* of *service*."""
        steps = walk(name, service, self.instance.unused)
        return tuple(step.word for step in steps if permits(step, service))


def is_on_loopback(service: Service) -> bool:
    """Whether only this machine reaches *service*."""
    if service.type != "inet":
        return service.type == "unix"
    host, colon, _ = service.endpoint.rpartition(":")
    if colon:
        return host.strip("[]") == "localhost" or is_loopback(host.strip("[]"))
    interfaces = service.values.get("inet_interfaces", "").replace(",", " ").split()
    return bool(interfaces) and all(
        each in ("loopback-only", "localhost") or is_loopback(each.strip("[]")) for each in interfaces
    )
