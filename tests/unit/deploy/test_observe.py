"""Alerts and dashboard ask for metrics that a worker exports; each alert fires on its fault, and is explained."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
OBSERVE = ROOT / "deploy" / "observe"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
# What docs/metrics.md lists, which tests/unit/worker/test_metrics.py compares with what a worker exposes.
TABLE = re.compile(r"^\| `(pipeline_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)
LISTED = {name: (kind, labels) for name, kind, labels in TABLE.findall((ROOT / "docs" / "metrics.md").read_text())}
# Of the process, by the Prometheus client; `up` is Prometheus' own.
OF_THE_PROCESS = {
    *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"),
    "up",
}
METRIC = re.compile(r"\b((?:pipeline|process)_\w+|up)\b")
SELECTOR = re.compile(r"\b(pipeline_\w+)\{([^}]*)\}")
SCRAPED = {"job", "instance", "pod"}  # labels that the scrape adds


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((OBSERVE / "rules.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((OBSERVE / "grafana" / "pipeline.json").read_text())["panels"]
    return found


def expressions() -> list[tuple[str, str]]:
    """Each expression, with where it stands."""
    queries = [(panel["title"], each["expr"]) for panel in panels() for each in panel.get("targets", ())]
    return [*((rule["alert"], rule["expr"]) for rule in rules()), *queries]


def metric_of(name: str) -> str | None:
    """The metric to which a name in a query belongs; None if a worker exports none such."""
    if name in OF_THE_PROCESS or name in LISTED:
        return name
    histogram = re.sub(r"_(bucket|count|sum)$", "", name)
    return histogram if histogram != name and LISTED.get(histogram, ("", ""))[0] == "histogram" else None


def test_each_metric_that_is_asked_for_is_exported() -> None:
    asked = [(place, name) for place, text in expressions() for name in METRIC.findall(re.sub(r'"[^"]*"', "", text))]
    assert len({name for _, name in asked}) > 30
    assert [f"{place}: {name}" for place, name in asked if metric_of(name) is None] == []


def test_each_label_that_is_asked_for_is_exported() -> None:
    wrong = []
    for place, text in expressions():
        for name, selector in SELECTOR.findall(text):
            cell = LISTED[metric_of(name) or name][1]
            known = {*re.findall(r"\w+", cell.replace("no `service`", "")), *SCRAPED, "le"}
            known |= set() if "no `service`" in cell else {"service"}
            asked = set(re.findall(r"(\w+)\s*[!=]", selector))
            wrong += [f"{place}: {name} has no label {label}" for label in asked - known]
    assert wrong == []


def test_each_alert_has_its_section_and_says_so() -> None:
    names = [rule["alert"] for rule in rules()]
    sections = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
    assert list(sections) == names
    for rule in rules():
        name = rule["alert"]
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert sections[name].startswith(f"*{rule['labels']['severity']}.* ")
        assert "look" in sections[name].lower(), name
        assert "cure" in sections[name].lower(), name


def test_the_panels_that_the_runbook_names_exist() -> None:
    titles = {panel["title"] for panel in panels()}
    named = set(re.findall(r"\*([A-Z][^*]+)\*", RUNBOOK))
    assert len(named) > 5
    assert named - titles == set()


def test_each_alert_is_tested_on_its_fault() -> None:
    tests = yaml.safe_load((OBSERVE / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = [rule["alert"] for rule in rules()]
    assert [case["alertname"] for case in cases if case.get("exp_alerts")] == names
    assert [case["alertname"] for case in cases if not case.get("exp_alerts")] == names


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here; Debian: apt-get install prometheus")
@pytest.mark.parametrize("command", [["check", "config", "prometheus.yml"], ["test", "rules", "rules_test.yml"]])
def test_each_alert_fires_on_its_fault(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=OBSERVE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
