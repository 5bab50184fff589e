"""The manifests name things that exist, ask each process for what it answers, and agree with compose."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from operators.cli.main import find
from telemetry.metrics import METRICS
from tests.system.deploy.test_compose import COMPOSE, ROOT, SETTINGS, require_replicated, settings_of, with_openssl
from topics.kafka.settings import KafkaSettings

KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
FOLDERS: Final = sorted(path.parent for path in KUBERNETES.rglob("kustomization.yaml"))
BASE: Final = KUBERNETES / "base"
BY_LAG: Final = KUBERNETES / "overlays" / "by-lag"
THREE_BROKERS: Final = KUBERNETES / "overlays" / "three-brokers"


@cache
def documents(folder: Path) -> list[dict[str, Any]]:
    """Return everything that a folder's kustomization lists itself, without what other folders bring."""
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    files = [folder / name for name in listed if (folder / name).is_file()]
    return [document for path in files for document in yaml.safe_load_all(path.read_text())]


def of(kind: str, folder: Path = BASE) -> dict[str, dict[str, Any]]:
    """Return everything of a kind, by name."""
    return {each["metadata"]["name"]: each for each in documents(folder) if each["kind"] == kind}


def workloads() -> dict[str, dict[str, Any]]:
    """Return what runs for good, by role."""
    return of("Deployment") | of("StatefulSet")


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    """Return a workload's pods' own words."""
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def container(workload: dict[str, Any]) -> dict[str, Any]:
    """Return the one container of a workload's pods."""
    [only] = pod(workload)["containers"]
    assert isinstance(only, dict)
    return only


def everything() -> Iterator[dict[str, Any]]:
    """Yield each workload and the job before them."""
    yield from workloads().values()
    yield from of("Job").values()


def chosen(selector: dict[str, str]) -> list[str]:
    """Return the workloads whose pods have these labels."""
    return [
        name
        for name, workload in workloads().items()
        if selector.items() <= workload["spec"]["template"]["metadata"]["labels"].items()
    ]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_file_is_listed_and_every_listed_file_is_there(folder: Path) -> None:
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert [name for name in listed if not (folder / name).exists()] == []
    assert {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"} <= set(listed)
    assert all({"apiVersion", "kind", "metadata"} <= document.keys() for document in documents(folder))


def test_every_role_runs_as_compose_runs_it() -> None:
    words = {name: " ".join(container(workload)["args"][:2]) for name, workload in workloads().items()}
    assert words == {
        "ingress": "ingress --host",
        **{
            role: f"worker {role}"
            for role in ("reservations", "payments", "projections", "coordination", "expiry", "reconciliation")
        },
    }
    services = COMPOSE["services"]
    assert {container(each)["image"] for each in everything()} == {services["payments"]["image"]}
    [migrate] = of("Job").values()
    assert container(migrate)["args"] == services["migrate"]["command"]
    assert container(migrate)["command"] == services["migrate"]["entrypoint"]


def test_every_command_of_the_manifests_can_be_typed() -> None:
    for workload in workloads().values():
        command, called, arguments = find(container(workload)["args"])
        command.make_context(called, arguments)


def test_a_reservations_worker_keeps_its_name_and_nobody_else_in_a_group_is_given_one() -> None:
    named = {name for name, workload in workloads().items() if "$(POD_NAME)" in container(workload)["args"]}
    # Names of a Deployment's pods never come back: the broker would wait for the dead. The others are in no group.
    assert named == {"reservations", "ingress", "expiry", "reconciliation"}
    [variable] = container(workloads()["reservations"])["env"]
    assert variable == {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    [service] = [name for name, each in of("Service").items() if each["spec"].get("clusterIP") == "None"]
    assert of("StatefulSet")["reservations"]["spec"]["serviceName"] == service


def test_labels_lead_from_one_to_the_other() -> None:
    for name, workload in workloads().items():
        assert chosen(workload["spec"]["selector"]["matchLabels"]) == [name]
    for name, service in of("Service").items():
        assert chosen(service["spec"]["selector"]) == [name]
        ports = {port["name"] for port in container(workloads()[name])["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for name, budget in of("PodDisruptionBudget").items():
        assert chosen(budget["spec"]["selector"]["matchLabels"]) == [name]
    [entrance] = of("Ingress").values()
    backend = entrance["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["port"]["name"] in {port["name"] for port in of("Service")[backend["name"]]["spec"]["ports"]}


def test_of_several_pods_one_stays_while_nodes_are_emptied() -> None:
    several = {name: each["spec"]["replicas"] for name, each in workloads().items() if each["spec"]["replicas"] > 1}
    assert several.keys() == of("PodDisruptionBudget").keys() == {"ingress", "reservations", "expiry"}
    for name, budget in of("PodDisruptionBudget").items():
        spec = budget["spec"]
        stay = spec.get("minAvailable", several[name] - spec.get("maxUnavailable", 0))
        assert 1 <= stay < several[name]


def test_probes_ask_what_the_process_answers() -> None:
    settings = of("ConfigMap")["innkeeper"]["data"]
    for name, workload in workloads().items():
        ports = {port["name"]: port["containerPort"] for port in container(workload)["ports"]}
        assert ports["metrics"] == int(settings["METRICS_PORT"])
        probes = {key: each["httpGet"] for key, each in container(workload).items() if key.endswith("Probe")}
        if name == "ingress":
            arguments = container(workload)["args"]
            assert ports["http"] == int(arguments[arguments.index("--port") + 1])
            assert probes["livenessProbe"] == {"path": "/health/live", "port": "http"}
            assert probes["readinessProbe"] == {"path": "/health/ready", "port": "http"}
            routes = (ROOT / "ingress" / "operators" / "handlers.py").read_text()
            assert all(f'"GET {probe["path"]}"' in routes for probe in probes.values())
        else:
            assert probes.keys() == {"startupProbe", "livenessProbe"}
            assert list(probes.values()) == [{"path": "/metrics", "port": "metrics"}] * 2
    assert settings["METRICS_HOST"] == "0.0.0.0"


def test_pods_may_do_no_more_than_they_need() -> None:
    for each in everything():
        assert pod(each)["automountServiceAccountToken"] is False
        # With Services' names for variables, one called `metrics` would be METRICS_PORT.
        assert pod(each)["enableServiceLinks"] is False
        outer, inner = pod(each)["securityContext"], container(each)["securityContext"]
        assert outer["runAsNonRoot"]
        assert f"--uid {outer['runAsUser']} " in (ROOT / "Dockerfile").read_text()
        assert inner == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container(each)["resources"]["requests"].keys()
        assert {mount["mountPath"] for mount in container(each)["volumeMounts"]} == {"/run/secrets", "/tmp"}
        mounted = {mount["name"] for mount in container(each)["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod(each)["volumes"]}


def test_secrets_go_to_those_who_need_them_and_the_page_shows_how_they_are_made() -> None:
    read = {each["metadata"]["name"]: secrets(each) for each in everything()}
    assert read == {
        "migrate": ["innkeeper"],
        "reservations": ["innkeeper"],
        "projections": ["innkeeper"],
        "coordination": ["innkeeper"],
        "expiry": ["innkeeper"],
        "payments": ["innkeeper", "innkeeper-payments"],
        "reconciliation": ["innkeeper", "innkeeper-payments"],
        "ingress": ["innkeeper", "innkeeper-ingress"],
    }
    page = (ROOT / "docs" / "deployment.md").read_text()
    made = set(re.findall(r"create secret (?:generic|tls) (\S+)", page))
    assert made == {name for names in read.values() for name in names} | {
        of("Ingress")["innkeeper"]["spec"]["tls"][0]["secretName"]
    }
    assert all(document["kind"] != "Secret" for folder in FOLDERS for document in documents(folder))


def secrets(workload: dict[str, Any]) -> list[str]:
    """Return the names of the secrets whose keys are a workload's files."""
    [sources] = [volume["projected"]["sources"] for volume in pod(workload)["volumes"] if "projected" in volume]
    return [source["secret"]["name"] for source in sources]


@with_openssl
@pytest.mark.parametrize("service", ["ingress-1", "payments", "reconciliation", "reservations-1"])
def test_each_process_takes_its_settings_as_production(service: str, tmp_path: Path) -> None:
    data = of("ConfigMap")["innkeeper"]["data"]
    assert data.keys() <= SETTINGS
    assert data["ENVIRONMENT"] == "production"
    of_secrets = {
        "database_url": "postgresql://innkeeper:secret@db/innkeeper",
        "jwt_secret_key": "a key that is long enough for production",
        "booking_id_key": "another key that is long enough for it",
        "stripe_webhook_secret": "whsec_of_some_length_and_more",
        "stripe_api_key": "sk_live_of_nobody",
        "payment_mark_key": "a key that is long enough for production",
    }
    for name, value in of_secrets.items():
        (tmp_path / name).write_text(value)
    assert settings_of(service, tmp_path, data)["database_url"] == of_secrets["database_url"]


def test_workers_are_added_by_a_published_lag_and_never_more_than_have_work() -> None:
    [scaled] = of("ScaledObject", BY_LAG).values()
    target = scaled["spec"]["scaleTargetRef"]
    assert of(target["kind"]).keys() >= {target["name"]}
    partitions = int(of("ConfigMap")["innkeeper"]["data"]["TOPIC_PARTITIONS"])
    assert partitions == KafkaSettings.model_fields["topic_partitions"].default
    assert scaled["spec"]["maxReplicaCount"] == partitions
    assert scaled["spec"]["minReplicaCount"] >= 1
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    labels = {metric.name: metric.labels for metric in METRICS}
    [(name, label)] = re.findall(r"(innkeeper_\w+)\{(\w+)=", query)
    assert label in labels[name]
    [monitor] = of("PodMonitor", BY_LAG).values()
    assert chosen(monitor["spec"]["selector"]["matchLabels"]) == [*workloads()]
    targets = {rule["targetLabel"] for rule in monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]}
    assert targets == {"role", "instance"}


def test_three_brokers_are_one_cluster_of_which_one_may_be_away() -> None:
    [kafka] = of("StatefulSet", THREE_BROKERS).values()
    only, spec = container(kafka), kafka["spec"]
    assert only["image"] == COMPOSE["services"]["kafka"]["image"]
    [service] = of("Service", THREE_BROKERS).values()
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert spec["serviceName"] == service["metadata"]["name"]
    labels = spec["template"]["metadata"]["labels"]
    [budget] = of("PodDisruptionBudget", THREE_BROKERS).values()
    assert service["spec"]["selector"] == labels
    assert all(each["spec"]["selector"]["matchLabels"] == labels for each in (kafka, budget))
    assert budget["spec"]["maxUnavailable"] == 1
    [spread] = pod(kafka)["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels
    assert spread["whenUnsatisfiable"] == "DoNotSchedule"
    # Services' names for variables would become settings of the broker.
    assert pod(kafka)["enableServiceLinks"] is False

    given = {each["name"]: each["value"] for each in only["env"] if "value" in each}
    hosts = {f"kafka-{ordinal}": str(ordinal) for ordinal in range(spec["replicas"])}
    require_replicated(
        {
            f"{pod_name}.{spec['serviceName']}": {
                **{name: value.replace("$(POD_NAME)", pod_name) for name, value in given.items()},
                "KAFKA_NODE_ID": ordinal,
            }
            for pod_name, ordinal in hosts.items()
        }
    )
    [data] = spec["volumeClaimTemplates"]
    [mount] = only["volumeMounts"]
    assert data["metadata"]["name"] == mount["name"]
    assert Path(given["KAFKA_LOG_DIRS"]).is_relative_to(mount["mountPath"])
    patch = yaml.safe_load((THREE_BROKERS / "kustomization.yaml").read_text())["patches"][0]["patch"]
    assert f'"{",".join(f"{name}.kafka:9092" for name in hosts)}"' in patch
    settings = of("ConfigMap")["innkeeper"]["data"]
    assert (settings["TOPIC_REPLICATION"], settings["TOPIC_MIN_INSYNC_REPLICAS"]) == ("3", "2")


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which has kustomize, is not installed")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_kustomize_puts_it_together(folder: Path) -> None:
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert {each["kind"] for each in built} >= {"Deployment", "StatefulSet", "Job", "Ingress"}
    assert {each["metadata"].get("namespace") for each in built if each["kind"] != "Namespace"} == {"innkeeper"}
    if folder.name == "example":
        images = set(re.findall(r"image: (\S+)", done.stdout))
        assert images == {"registry.example.com/innkeeper:0.1.0"}
        assert "innkeeper.example.com" not in done.stdout
    if folder == BY_LAG:
        [decides] = [each for each in built if each["kind"] == "StatefulSet"]
        assert "replicas" not in decides["spec"]
