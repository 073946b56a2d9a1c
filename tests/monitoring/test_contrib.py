"""contrib/prometheus and contrib/grafana, read by the real promtool, beside what the daemon really says."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.counters import CounterPage
from policyd.web.metrics import families, render
from policyd.web.observed import Seen
from tests.support.required import give_up

ROOT = Path(__file__).resolve().parents[2]
CONTRIB = ROOT / "contrib"
RULES = CONTRIB / "prometheus" / "policyd.rules.yml"
SCENARIOS = sorted(Path(__file__).parent.glob("*.test.yml"))
ALERTS = {
    "Down", "DatabaseUnreadable", "Hangups", "NobodyAsks", "AllInsiders", "RefusalsJump", "SlowAnswers",
    "AuditDropped", "ReplicaLag", "WorkerFlapping", "MonitorForgotten", "ConnectionsNear",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def promtool() -> None:
    """Skip, but where it is required fail."""
    if not shutil.which("promtool"):
        give_up("PROMETHEUS", "not installed: promtool (Debian: apt-get install --no-install-recommends prometheus)")


def run(*words: str | Path) -> str:
    """What promtool says; it must find nothing wrong."""
    done = subprocess.run(["promtool", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def names() -> set[str]:
    """The names of all series that the daemon has."""
    page = CounterPage(1)
    return {sample.name for family in families(page, Seen()) for sample in family.samples}


def metrics_in(expression: str) -> set[str]:
    """The metrics of the daemon's that *expression* is about; a recording rule's name has a colon."""
    return {*re.findall(r"(?<![\w:])policyd_\w+", expression)}


def expressions_of_rules() -> dict[str, str]:
    """The expression of each rule, by the line that names it."""
    text = RULES.read_text(encoding="utf-8")
    rules = re.split(r"^      - (?=alert|record)", text, flags=re.MULTILINE)[1:]
    return {rule.splitlines()[0]: rule.partition("expr:")[2].partition("\n        labels:")[0] for rule in rules}


def expressions_of_dashboard() -> Iterator[str]:
    """Each expression, with what Grafana puts in the places of its variables."""
    dashboard = json.loads((CONTRIB / "grafana" / "policyd.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


def test_rules_are_well_formed_and_all_there() -> None:
    """A file that Prometheus refuses alerts nobody."""
    assert "SUCCESS: 13 rules found" in run("check", "rules", RULES)
    assert {name.removeprefix("alert: Policyd") for name in expressions_of_rules() if "alert" in name} == ALERTS
    assert "SUCCESS" in run("check", "config", "--syntax-only", CONTRIB / "prometheus" / "prometheus.yml")


def test_each_alert_comes_with_its_cause_and_not_without(tmp_path: Path) -> None:
    """Two of them find what nothing else tells: that nobody asks, and that everybody is an insider."""
    for file in [RULES, *SCENARIOS]:
        shutil.copy(file, tmp_path)
    told = run("test", "rules", *(tmp_path / file.name for file in SCENARIOS))
    assert told.count("SUCCESS") == len(SCENARIOS) == 3
    expected = " ".join(file.read_text(encoding="utf-8") for file in SCENARIOS)
    assert {*re.findall(r'alertname="Policyd(\w+)"', expected)} == ALERTS


def test_rules_speak_of_metrics_that_there_are() -> None:
    """An expression about a metric that nobody has is true of nothing, for ever."""
    assert {name for each in expressions_of_rules().values() for name in metrics_in(each)} <= names()


def test_dashboard_can_be_asked_for_and_shows_every_metric(tmp_path: Path) -> None:
    """An empty panel looks like a quiet day."""
    expressions = [*expressions_of_dashboard()]
    file = tmp_path / "dashboard.yml"
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions)]
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    assert f"SUCCESS: {len(expressions)} rules found" in run("check", "rules", file)
    shown = {name for each in expressions for name in metrics_in(each)}
    others = {f"policyd_decision_duration_seconds_{each}" for each in ("sum", "count")}
    assert shown == names() - others


def test_names_of_metrics_are_good_ones() -> None:
    """As promtool judges them: a counter ends in _total, a unit is a base unit, and each has a help text."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=render(CounterPage(1), Seen()), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
