"""`packaging/kubernetes`: the manifests against the schemas of Kubernetes, and the container's arguments and probes against the
real binary. Nothing here stands for a cluster."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from conftest import BINARY, ROOT, Server, until

FOLDER = ROOT / "packaging/kubernetes"
DOCUMENTS = [document for file in sorted(FOLDER.rglob("*.yaml")) for document in yaml.safe_load_all(file.read_text())]
KINDS = ["Deployment", "HorizontalPodAutoscaler", "PersistentVolumeClaim", "PodDisruptionBudget", "Service"]
# The oldest version that README.md names, and the newest that the package knows.
VERSIONS = ["1.32", kubernetes_validate.latest_version()]
KEY = "of the test"


def only(kind: str) -> dict:
    (found,) = [document for document in DOCUMENTS if document["kind"] == kind]
    return found


POD = only("Deployment")["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


def value(option: str) -> str:
    """The value of an option in the container's arguments."""
    (found,) = [argument for argument in CONTAINER["args"] if argument.startswith(f"--{option}=")]
    return found.partition("=")[2]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_schemas_take_the_manifests(kind, version):
    kubernetes_validate.validate(only(kind), version, strict=True)


def test_nothing_else_is_in_the_folder():
    assert sorted(document["kind"] for document in DOCUMENTS) == KINDS


def test_what_the_manifests_name_is_there():
    """Names that schemas do not follow: labels, ports, volumes, the deployment that is scaled."""
    deployment, service = only("Deployment"), only("Service")
    labels = POD["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]]
    selectors += [only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
    selectors += [one["labelSelector"]["matchLabels"] for one in POD["spec"]["topologySpreadConstraints"]]
    assert all(selector == labels for selector in selectors)
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    assert str(ports["http"]) == value("port")
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    assert set(volumes) == {mount["name"] for mount in CONTAINER["volumeMounts"]}
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claim == only("PersistentVolumeClaim")["metadata"]["name"]
    target = only("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    # A budget and an update that leave nobody would both be allowed by the schemas.
    assert only("HorizontalPodAutoscaler")["spec"]["minReplicas"] >= deployment["spec"]["replicas"] >= 2
    # What is written lies on a volume: the root is read-only.
    written = [value("cache-dir"), *(one["value"] for one in CONTAINER["env"] if one["name"] == "HF_HOME")]
    mounts = [mount["mountPath"] for mount in CONTAINER["volumeMounts"] if not mount.get("readOnly")]
    assert all(any(path.startswith(f"{mount}/") for mount in mounts) for path in written)
    # The folder of states stays below the volume's size, beyond which the pod is evicted.
    limit, size = value("cache-limit"), volumes["cache"]["emptyDir"]["sizeLimit"]
    assert int(limit.removesuffix("GiB")) < int(size.removesuffix("Gi"))


def test_every_option_exists():
    told = subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"^ +(--[a-z-]+)", told, re.MULTILINE))
    used = {argument.partition("=")[0] for argument in CONTAINER["args"] if argument.startswith("--")}
    assert used <= known and len(used) > 8
    assert CONTAINER["args"][0] == "serve" and not CONTAINER.get("command")
    variables = set(re.findall(r"\[env: (\w+)", told))
    assert {one["name"] for one in CONTAINER["env"] if one["name"].startswith("SELVEDGE_")} <= variables


@pytest.fixture
def pod(tmp_path: Path, monkeypatch):
    """The container's arguments on this machine: with the demo model, a folder of the test and a free port of the loopback."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    here = {"/models/model": str(ROOT / "assets/demo"), value("cache-dir"): str(tmp_path / "states")}
    here |= {f"--cache-dir={old}": f"--cache-dir={new}" for old, new in here.items()}
    here |= {f"--host={value('host')}": "--host=127.0.0.1", f"--port={value('port')}": "--port=0"}
    arguments = [here.get(argument, argument) for argument in CONTAINER["args"]]
    one = Server(command=arguments, key=KEY)
    yield one
    one.stop()


def test_the_container_answers_its_probes_and_drains_in_time(pod):
    """The end of a pod as the kubelet makes it: a reply under way comes to its end, within the grace period."""
    probes = [CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    ports = {port["name"] for port in CONTAINER["ports"]}
    for probe in probes:
        # The kubelet sends no key.
        assert pod.request(probe["path"])[0] == 200 and probe["port"] in ports
    authorised = {"Authorization": f"Bearer {KEY}"}
    assert pod.request("/v1/models")[0] == 401
    status, _, told = pod.request("/v1/models", headers=authorised)
    (model,) = json.loads(told)["data"]
    assert (status, model["id"], str(model["slots"])) == (200, value("name"), value("slots"))
    # Metrics by which pods are scaled.
    told = pod.request("/metrics", headers=authorised)[2].decode()
    for metric in only("HorizontalPodAutoscaler")["spec"]["metrics"]:
        assert re.search(rf"^{metric['pods']['metric']['name']} \d+$", told, re.MULTILINE)

    body = json.dumps({"prompt": "One cold day", "max_tokens": 600, "temperature": 0, "stream": True})
    request = urllib.request.Request(
        f"{pod.address}/v1/completions", body.encode(), {"Content-Type": "application/json", **authorised}
    )
    lines: list[bytes] = []
    with urllib.request.urlopen(request, timeout=60) as stream:
        lines.append(stream.readline())
        reader = threading.Thread(target=lambda: lines.extend(stream))
        pod.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        until(lambda: pod.request(probes[1]["path"])[0] == 503)
        status, headers, _ = pod.request("/v1/completions", {"prompt": "a"}, authorised)
        assert status == 503 and "retry-after" in headers
        reader.start()
        reader.join(60)
    assert lines[-2].strip() == b"data: [DONE]" and len(lines) > 100
    grace = POD["spec"]["terminationGracePeriodSeconds"]
    before = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert before + int(value("drain")) < grace
    assert pod.process.wait(grace - before) == 0
    assert time.monotonic() - began < grace - before
