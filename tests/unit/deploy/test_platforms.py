"""What the manifests, the chart and the unit promise: probes, no root, one worker at a time, a volume, secrets."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.test_images import parse

DEPLOY = Path(__file__).parents[3] / "deploy"
CHART = DEPLOY / "helm" / "pipeline"
Manifest = dict[str, Any]


def plain() -> list[Manifest]:
    """The manifests that kustomization.yaml names."""
    named = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    there = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(named) == there
    return [each for name in named for each in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())]


def rendered(*options: str) -> list[Manifest]:
    """What the chart makes."""
    command = ["helm", "template", "shop", str(CHART), "--set", "bootstrap=kafka-1:9092", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] == kind]


def assert_fit(manifests: list[Manifest]) -> Manifest:
    """Assert what a worker needs of its platform, and return the container."""
    (stateful,) = of_kind(manifests, "StatefulSet")
    (disruption,) = of_kind(manifests, "PodDisruptionBudget")
    spec, labels = stateful["spec"], stateful["spec"]["template"]["metadata"]["labels"]
    pod = spec["template"]["spec"]
    (worker,) = pod["containers"]
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind(manifests, "Service")}

    # One at a time, and only when the last is ready.
    assert spec["replicas"] >= 2
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    assert disruption["spec"]["maxUnavailable"] == 1
    selectors = [spec["selector"]["matchLabels"], disruption["spec"]["selector"]["matchLabels"]]
    assert all(each == labels for each in (*selectors, *(service["selector"] for service in services.values())))
    probes = {name: worker[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert probes == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert pod["terminationGracePeriodSeconds"] >= 10

    # Not root, and able to change nothing but its state.
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    assert worker["securityContext"]["readOnlyRootFilesystem"] is True
    assert worker["securityContext"]["allowPrivilegeEscalation"] is False
    assert worker["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "limits" in worker["resources"]

    # A Service called pipeline would set PIPELINE_PORT in each pod.
    assert pod["enableServiceLinks"] is False

    # Its address, which others find before it is ready; its volume; its secrets, as folders, which are updated.
    pods = services[spec["serviceName"]]
    assert pods["clusterIP"] == "None"
    assert pods["publishNotReadyAddresses"] is True
    assert f"--advertise=$(POD_NAME).{spec['serviceName']}.$(POD_NAMESPACE).svc:6066" in worker["args"]
    assert "--node=$(POD_NAME)" in worker["args"]
    parse(worker["args"])
    environment = {each["name"]: each.get("value") for each in worker["env"]}
    mounts = {each["mountPath"]: each["name"] for each in worker["volumeMounts"] if "subPath" not in each}
    assert [each["metadata"]["name"] for each in spec["volumeClaimTemplates"]] == [mounts[environment["PIPELINE_HOME"]]]
    secrets = {each["name"] for each in pod["volumes"] if "secret" in each}
    for option in ("--token-file", "--secret-file"):
        (file,) = [arg.partition("=")[2] for arg in worker["args"] if arg.startswith(option)]
        assert mounts[str(Path(file).parent)] in secrets
    return worker


def test_the_manifests_fit_a_worker() -> None:
    assert_fit(plain())


def test_the_chart_names_its_values_and_uses_all() -> None:
    def leaves(values: Manifest, above: str = "") -> set[str]:
        found = set()
        for name, value in values.items():
            inner = isinstance(value, dict) and name != "resources"
            found |= leaves(value, f"{above}{name}.") if inner else {above + name}
        return found

    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    used = set(re.findall(r"\.Values\.([\w.]+)", templates))
    assert used == leaves(yaml.safe_load((CHART / "values.yaml").read_text()))


def test_the_chart_says_of_a_pod_what_the_manifests_say() -> None:
    """Line by line, but for what values decide."""
    ours = [line for line in (DEPLOY / "kubernetes" / "statefulset.yaml").read_text().splitlines() if line.strip()]
    theirs = (CHART / "templates" / "statefulset.yaml").read_text().splitlines()
    differ = [line.strip() for line in ours if line not in theirs and "app.kubernetes.io/name" not in line]
    words = ("name: pipeline", "serviceName", "replicas", "image:", "--advertise", "PIPELINE_TOPOLOGY", "storage:")
    words += ("PIPELINE_BOOTSTRAP", "resources:", "requests:", "limits:", "secretName")
    assert [line for line in differ if not any(word in line for word in words)] == []


@pytest.mark.skipif(shutil.which("helm") is None, reason="no helm here: go install helm.sh/helm/v3/cmd/helm@latest")
def test_what_the_chart_makes_fits_a_worker() -> None:
    assert_fit(rendered())
    options = ("services={orders,users}", "standby=true", "clientConfigSecret=kafka", "podMonitor.enabled=true")
    made = rendered(*(word for each in options for word in ("--set", each)))
    worker = assert_fit(made)
    assert {"--service=orders", "--service=users", "--standby"} <= set(worker["args"])
    assert "/etc/pipeline/client" in {mount["mountPath"] for mount in worker["volumeMounts"]}
    assert len(of_kind(made, "PodMonitor")) == 1
    with pytest.raises(AssertionError, match="bootstrap: the brokers"):
        rendered("--set", "bootstrap=")


def test_the_unit_runs_a_worker_that_is_not_started_again_in_vain() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "systemd" / "pipeline@.service")
    service = unit["Service"]
    assert service["User"] == "pipeline"
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2"
    assert int(service["TimeoutStopSec"]) >= 10
    assert service["StateDirectory"] == "pipeline/%i"
    command = service["ExecStart"].replace("%i", "orders").replace("%H", "shop-1").replace("${PORT}", "6066")
    assert Path(shlex.split(command)[0]).name == "pipeline"
    parse(shlex.split(command)[1:])
