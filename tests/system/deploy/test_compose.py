"""Everything in docker-compose.yml exists, is watched, and gets its secrets as files that the processes start with."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from string import Template
from typing import Any, Final

import pytest
import yaml

from docs.generate import settings_classes
from operators.cli.main import find
from sandbox import nginx
from topics.kafka.admin import MAX_MESSAGE_BYTES
from workers.stripe.event_types import EVENT_TYPES

ROOT: Final = Path(__file__).parents[3]
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
#: The file that is laid over it for three brokers.
THREE_BROKERS: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.three-brokers.yml").read_text())
#: They run to their end, each time.
SHORT: Final = {"migrate"}
OURS: Final = {name for name, service in SERVICES.items() if service["image"].startswith("innkeeper:")}
SETTINGS: Final = {name.upper() for settings in settings_classes() for name in settings.model_fields}
SECRET: Final = {
    "booking_id_key",
    "database_url",
    "jwt_secret_key",
    "payment_mark_key",
    "stripe_api_key",
    "stripe_webhook_secret",
}
with_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def parts(service: str, part: str) -> list[Any]:
    """Return a service's list of something; the names, where each has more to it."""
    return list(SERVICES[service].get(part, ()))


def environment(service: str) -> dict[str, str]:
    """Return a service's variables as compose sets them on a machine that sets none itself."""
    variables: Mapping[str, str] = SERVICES[service].get("environment", {})
    return {name: re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", value).replace("$$", "$") for name, value in variables.items()}


def addresses() -> dict[str, str]:
    """Return the fixed addresses behind the proxy."""
    return {
        name: service["networks"]["proxy"]["ipv4_address"]
        for name, service in SERVICES.items()
        if "proxy" in service.get("networks", ())
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the secrets that the script made beside itself, in a copy."""
    copy = tmp_path_factory.mktemp("deploy") / "make-secrets"
    shutil.copy(ROOT / "deploy" / "make-secrets", copy)
    subprocess.run([copy, "innkeeper.test"], check=True, capture_output=True)
    return copy.parent / "secrets"


def test_every_process_of_ours_runs_and_has_company_where_it_should() -> None:
    roles = [SERVICES[name]["command"][:2] for name in OURS - SHORT]
    assert sorted(" ".join(role).removesuffix(" --host") for role in roles) == [
        *["ingress"] * 2,
        "worker coordination",
        "worker expiry",
        "worker payments",
        "worker projections",
        "worker reconciliation",
        *["worker reservations"] * 2,
    ]
    names = [command[command.index("--name") + 1] for name in OURS - SHORT for command in [SERVICES[name]["command"]]]
    assert len(set(names)) == len(names)


def test_everything_that_a_service_refers_to_is_there() -> None:
    for name in SERVICES:
        assert {*parts(name, "depends_on")} <= SERVICES.keys(), name
        assert {*parts(name, "secrets")} <= COMPOSE["secrets"].keys(), name
        assert {*parts(name, "networks")} <= COMPOSE["networks"].keys(), name
        for volume in parts(name, "volumes"):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume
    used = {secret for name in SERVICES for secret in parts(name, "secrets")}
    assert used == COMPOSE["secrets"].keys()
    kept = {volume.split(":")[0] for name in SERVICES for volume in parts(name, "volumes")}
    assert COMPOSE["volumes"].keys() <= kept


def test_a_service_that_others_wait_for_has_a_health_check() -> None:
    for name, service in SERVICES.items():
        for other, dependency in service.get("depends_on", {}).items():
            ends = dependency["condition"] == "service_completed_successfully"
            assert ends == (other in SHORT), (name, other)
            assert ends or "healthcheck" in SERVICES[other], (name, other)


def test_images_are_pinned_and_ours_are_built_here() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?(-alpine)?", service["image"]), name
        if service["image"].startswith("innkeeper"):
            assert service["build"]["target"] in targets
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert {SERVICES[name]["image"] for name in OURS} == {f"innkeeper:{version[1]}"}


def test_the_service_stripe_sends_the_events_that_payments_needs() -> None:
    sent = re.findall(r"--event=(\S+)", (ROOT / "docker-compose.yml").read_text())
    assert sent == list(EVENT_TYPES)


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - SHORT))
def test_a_service_that_stays_is_watched_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    if name in OURS:
        probe = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]*)", service["healthcheck"]["test"][-1])
        assert probe is not None
        if service["command"][0] == "ingress":
            assert probe.groups() == (service["command"][service["command"].index("--port") + 1], "/health/ready")
            assert '"GET /health/ready"' in (ROOT / "ingress/operators/handlers.py").read_text()
        else:
            assert probe.groups() == (environment(name)["METRICS_PORT"], "/metrics")


def test_three_brokers_are_one_cluster_and_every_process_of_ours_knows_all() -> None:
    services = THREE_BROKERS["services"]
    brokers = {name: service for name, service in services.items() if name.startswith("kafka")}
    one = SERVICES["kafka"]
    require_replicated({name: one["environment"] | broker["environment"] for name, broker in brokers.items()})
    for name, broker in brokers.items():
        [volume] = broker.get("volumes", one["volumes"])
        assert volume == f"{name}:{one['environment']['KAFKA_LOG_DIRS']}"
        if name != "kafka":
            assert broker["extends"] == {"file": "docker-compose.yml", "service": "kafka"}
            assert services["migrate"]["depends_on"][name] == {"condition": "service_healthy"}
    assert brokers.keys() - {"kafka"} == THREE_BROKERS["volumes"].keys()
    assert services.keys() - brokers.keys() == OURS
    for name in OURS:
        assert services[name]["environment"] == {
            "KAFKA_URL": ",".join(f"{broker}:9092" for broker in brokers),
            "TOPIC_REPLICATION": "3",
            "TOPIC_MIN_INSYNC_REPLICAS": "2",
        }


def require_replicated(brokers: Mapping[str, Mapping[str, Any]]) -> None:
    """Require that brokers, by host, are three, name each other, and keep three copies of which two acknowledge."""
    assert len(brokers) == 3
    ids = [int(settings["KAFKA_NODE_ID"]) for settings in brokers.values()]
    voters = ",".join(f"{id}@{host}:9093" for id, host in zip(ids, brokers, strict=True))
    assert ids == sorted(set(ids))
    for host, settings in brokers.items():
        assert settings["KAFKA_CONTROLLER_QUORUM_VOTERS"] == voters
        assert settings["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{host}:9092"
        assert settings["KAFKA_PROCESS_ROLES"] == "broker,controller"
        assert settings["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
        assert settings["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
        assert int(settings["KAFKA_MESSAGE_MAX_BYTES"]) == MAX_MESSAGE_BYTES
        kept = {name: int(value) for name, value in settings.items() if name.endswith("REPLICATION_FACTOR")}
        assert len(kept) == 4
        assert set(kept.values()) == {3}
        needed = {name: int(value) for name, value in settings.items() if re.search("MIN_(ISR|INSYNC)", name)}
        assert len(needed) == 3
        assert set(needed.values()) == {2}
    assert len({settings["CLUSTER_ID"] for settings in brokers.values()}) == 1


def test_the_image_has_every_room_and_what_the_build_reads() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    read = {"LICENSE", "pyproject.toml", project["project"]["readme"], "requirements-build.lock"}
    lines = (ROOT / ".dockerignore").read_text().splitlines()

    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == rooms | read | {"requirements-runtime.lock"}
    assert re.search(r"^ENTRYPOINT \[\"innkeeper\"\]$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(OURS - SHORT))
def test_every_command_of_compose_can_be_typed(name: str) -> None:
    command, called, arguments = find(SERVICES[name]["command"])

    command.make_context(called, arguments)


def test_prometheus_measures_every_service_that_stays() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = {target for group in config["scrape_configs"][0]["static_configs"] for target in group["targets"]}
    assert targets == {f"{name}:{environment(name)['METRICS_PORT']}" for name in OURS - SHORT}
    assert {environment(name)["METRICS_HOST"] for name in OURS - SHORT} == {"0.0.0.0"}
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
    assert source["datasources"][0]["url"].removeprefix("http://").split(":")[0] in SERVICES
    provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/innkeeper.yml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    assert any(volume.split(":")[1] == folder for volume in parts("grafana", "volumes"))


def test_only_guests_payers_and_operators_find_a_port_and_on_this_machine_alone() -> None:
    ports = {name: parts(name, "ports") for name in SERVICES if parts(name, "ports")}
    assert ports == {
        "stripe": ["127.0.0.1:12111:12111"],
        "nginx": [f"127.0.0.1:8443:{environment('nginx')['HTTPS_PORT']}"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_the_proxy_knows_both_ingresses_and_they_believe_it_alone() -> None:
    subnet = ip_network(COMPOSE["networks"]["proxy"]["ipam"]["config"][0]["subnet"])
    assert all(ip_address(address) in subnet for address in addresses().values())
    behind = {name: address for name, address in addresses().items() if name != "nginx"}
    assert re.findall(r"server (\S+):8080 ", environment("nginx")["INGRESSES"]) == [*behind.values()]
    assert {SERVICES[name]["command"][0] for name in behind} == {"ingress"}
    assert {environment(name)["TRUSTED_PROXIES"] for name in behind} == {f"{addresses()['nginx']}/32"}
    webhooks = re.search(r"--webhook-url=http://(\w+):8080/webhooks/stripe ", SERVICES["stripe"]["command"][0])
    assert webhooks is not None
    assert all(SERVICES[name]["networks"]["default"]["aliases"] == [webhooks[1]] for name in behind)


def test_the_proxys_template_gets_every_value_and_keeps_nginxs_own_words() -> None:
    values = environment("nginx")
    named = set(re.findall(r"\$\{(\w+)\}", nginx.TEMPLATE.read_text()))
    assert named == {name for name in values if re.search(values["NGINX_ENVSUBST_FILTER"], name)}
    assert not re.search(values["NGINX_ENVSUBST_FILTER"], "host")


@with_openssl
def test_the_real_nginx_takes_what_compose_gives_it(made: Path, tmp_path: Path) -> None:
    if (reason := nginx.available()) is not None:
        pytest.skip(reason)
    own = {"TLS_FOLDER": str(made), "HTTP_PORT": f"unix:{tmp_path}/http", "HTTPS_PORT": f"unix:{tmp_path}/https"}
    site = Template(nginx.TEMPLATE.read_text()).safe_substitute(environment("nginx") | own)
    folders = "".join(
        f"{each}_temp_path {tmp_path}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {folders} {site} }}")

    program = shutil.which("nginx") or "/usr/sbin/nginx"
    done = subprocess.run([program, "-t", "-c", config, "-e", tmp_path / "log"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_no_secret_is_in_an_environment_or_in_the_repository() -> None:
    for name in OURS:
        assert environment(name).keys() <= SETTINGS, name
        assert not {setting.lower() for setting in environment(name)} & SECRET, name
    holders = {secret: {name for name in OURS if secret in parts(name, "secrets")} for secret in SECRET}
    ingresses = {"ingress-1", "ingress-2"}
    assert holders == {
        "database_url": OURS,
        "jwt_secret_key": ingresses,
        "booking_id_key": ingresses,
        "stripe_webhook_secret": ingresses,
        "stripe_api_key": {"payments", "reconciliation"},
        "payment_mark_key": {"payments", "reconciliation"},
    }
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "deploy/secrets"]
    assert subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout == b""
    ignored = ["git", "check-ignore", "--quiet", "deploy/secrets/jwt_secret_key"]
    assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0


@with_openssl
def test_every_secret_is_made_once_and_others_may_not_look(made: Path) -> None:
    files = {ROOT / secret["file"] for secret in COMPOSE["secrets"].values()}
    assert {path.name for path in made.iterdir()} == {path.name for path in files}
    assert {path.parent for path in files} == {ROOT / "deploy/secrets"}
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    # A container's user is not the one who made them.
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()} == {0o644}
    assert (made / "postgres_password").read_text().strip() in (made / "database_url").read_text()

    before = {path.name: path.read_bytes() for path in made.iterdir()}
    again = subprocess.run([made.parent / "make-secrets"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    assert [path.name for path in made.parent.iterdir() if "unfinished" in path.name] == []


@with_openssl
def test_the_certificate_names_the_host_and_no_two_installations_share_a_secret(made: Path, tmp_path: Path) -> None:
    listing = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(made / "tls.crt")]
    assert "DNS:innkeeper.test" in subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    other = tmp_path / "make-secrets"
    shutil.copy(ROOT / "deploy/make-secrets", other)
    subprocess.run([other], check=True, capture_output=True)
    assert [
        path.name for path in made.iterdir() if path.read_bytes() == (tmp_path / "secrets" / path.name).read_bytes()
    ] == []


@with_openssl
@pytest.mark.parametrize("name", ["ingress-1", "payments", "reconciliation", "reservations-1"])
def test_each_process_starts_with_its_files_alone(name: str, made: Path, tmp_path: Path) -> None:
    for secret in parts(name, "secrets"):
        shutil.copy(made / secret, tmp_path / secret)
    settings = settings_of(name, tmp_path, environment(name))
    for secret in set(parts(name, "secrets")):
        assert settings[secret] == (made / secret).read_text().strip()


def settings_of(service: str, secrets: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return, from a process of its own, the secret settings that it reads; fails where it refuses to start."""
    module = {
        "ingress-1": "ingress.settings:IngressSettings",
        "payments": "workers.payments.settings:PaymentSettings",
        "reconciliation": "workers.reconciliation.settings:ReconciliationSettings",
    }
    classes = ["storage.settings:DatabaseSettings", "topics.kafka.settings:KafkaSettings"]
    classes += [module[service]] if service in module else []
    lines = list(_lines(classes))
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SECRETS_FOLDER": str(secrets), **variables},
        cwd=secrets,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def _lines(classes: list[str]) -> Iterator[str]:
    yield "from pydantic import SecretStr"
    for each in classes:
        module, name = each.split(":")
        yield f"from {module} import {name}"
        yield f"for name, value in {name}():"
        yield "    if isinstance(value, SecretStr): print(f'{name}={value.get_secret_value()}')"
