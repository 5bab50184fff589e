"""Settings of the broker: contradictions refuse to start with a sentence, and no password is ever shown."""

import ast
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from pydantic import ValidationError

from sandbox.kafka.certificates import Certificates, available
from sandbox.spawning import run
from topics.kafka.settings import KafkaSettings
from workers.runtime.agent import _credentials

CLIENTS = {"AIOKafkaClient", "AIOKafkaProducer", "AIOKafkaConsumer", "AIOKafkaAdminClient"}
CANNOT = available()
needs_openssl = pytest.mark.skipif(CANNOT is not None, reason=CANNOT or "")

NAMED = {"kafka_username": "ingress", "kafka_password": "hunter2"}
SCRAM = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "ingress", "sasl_plain_password": "hunter2"}


@pytest_asyncio.fixture
async def certificates(tmp_path: Path) -> Certificates:
    """The certificates of one client and of the authority that signed it."""
    made = Certificates(tmp_path / "certificates")
    await made.make("ingress")
    return made


def settings(**values: Any) -> KafkaSettings:
    return KafkaSettings(_env_file=None, kafka_url="broker:9092", **values)


def options(**values: Any) -> dict[str, Any]:
    """Return the options of clients without the TLS context, which cannot be compared."""
    return {name: value for name, value in settings(**values).client_options().items() if name != "ssl_context"}


def test_without_security_settings_clients_neither_encrypt_nor_authenticate() -> None:
    assert settings().client_options() == {"bootstrap_servers": "broker:9092", "security_protocol": "PLAINTEXT"}


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_client_authenticates_as_its_user(protocol: str) -> None:
    found = options(kafka_security_protocol=protocol, **NAMED)

    assert found == {"bootstrap_servers": "broker:9092", "security_protocol": protocol, **SCRAM}


def test_an_encrypted_connection_checks_the_brokers_name() -> None:
    trust = settings(kafka_security_protocol="SSL").client_options()["ssl_context"]

    assert trust.check_hostname
    assert trust.verify_mode is ssl.CERT_REQUIRED


@needs_openssl
async def test_our_own_authority_is_trusted_instead_of_everybody_elses(certificates: Certificates) -> None:
    trust = settings(
        kafka_security_protocol="SASL_SSL", kafka_ca_file=certificates.authority, **NAMED
    ).client_options()["ssl_context"]

    assert [dict(part[0] for part in found["subject"]) for found in trust.get_ca_certs()] == [{"commonName": "sandbox"}]


@needs_openssl
@pytest.mark.parametrize("protocol", ["SSL", "SASL_PLAINTEXT", "SASL_SSL", "PLAINTEXT"])
async def test_faust_connects_with_the_same_credentials(certificates: Certificates, protocol: str) -> None:
    values = {**(NAMED if "SASL" in protocol else {}), "kafka_sasl_mechanism": "SCRAM-SHA-256"}
    found = settings(kafka_security_protocol=protocol, **values).client_options()

    options = dict(credentials_to_aiokafka_auth(_credentials(found)))

    assert {name: value for name, value in options.items() if value is not None} == {
        name: value for name, value in found.items() if name != "bootstrap_servers"
    }


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "SASL_SSL needs both KAFKA_USERNAME and KAFKA_PASSWORD."),
        (
            {"kafka_security_protocol": "SASL_SSL", "kafka_username": "ingress", "kafka_password": ""},
            "SASL_SSL needs both KAFKA_USERNAME and KAFKA_PASSWORD.",
        ),
        (NAMED, "PLAINTEXT sends neither KAFKA_USERNAME nor KAFKA_PASSWORD"),
        ({"kafka_security_protocol": "SSL", **NAMED}, "SSL sends neither KAFKA_USERNAME nor KAFKA_PASSWORD"),
        ({"kafka_ca_file": "ca.pem"}, "PLAINTEXT does not encrypt"),
        (
            {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_certificate_file": "ours.pem", **NAMED},
            "SASL_PLAINTEXT does not encrypt",
        ),
        ({"kafka_security_protocol": "SSL", "kafka_key_file": "ours.key"}, "no use without KAFKA_CERTIFICATE_FILE"),
        (
            {"kafka_security_protocol": "SSL", "kafka_ca_file": "nowhere/ca.pem"},
            "KAFKA_CA_FILE=nowhere/ca.pem: No such file or directory.",
        ),
        (
            {"kafka_security_protocol": "SSL", "kafka_certificate_file": "nowhere/ours.pem"},
            "KAFKA_CERTIFICATE_FILE=nowhere/ours.pem and its key: No such file or directory.",
        ),
        (
            {"kafka_security_protocol": "SSL", "kafka_ca_file": __file__},
            "there is no certificate in PEM.",
        ),
        ({"kafka_security_protocol": "SASL"}, "Input should be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'"),
        ({"kafka_sasl_mechanism": "GSSAPI"}, "Input should be 'PLAIN', 'SCRAM-SHA-256' or 'SCRAM-SHA-512'"),
    ],
)
def test_contradictory_settings_are_refused_with_a_sentence(values: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**values)

    assert sentence in str(refused.value)


@pytest.mark.process
@needs_openssl
async def test_a_key_of_another_certificate_is_refused(certificates: Certificates) -> None:
    await certificates.make("payments")

    with pytest.raises(ValidationError, match="with the key that belongs to it"):
        settings(
            kafka_security_protocol="SSL",
            kafka_certificate_file=certificates.of("ingress"),
            kafka_key_file=certificates.of("payments"),
        )


@pytest.mark.process
@needs_openssl
async def test_an_encrypted_key_is_refused_instead_of_asked_for_at_the_terminal(certificates: Certificates) -> None:
    encrypted, log = certificates.folder / "encrypted.key", certificates.folder / "openssl.log"
    plain = ("-in", str(certificates.of("ingress")))
    await run(("openssl", "pkcs8", "-topk8", *plain, "-out", str(encrypted), "-passout", "pass:secret"), {}, log)

    with pytest.raises(ValidationError, match="not encrypted"):
        settings(
            kafka_security_protocol="SSL",
            kafka_certificate_file=certificates.of("ingress"),
            kafka_key_file=encrypted,
        )


@needs_openssl
async def test_a_file_that_vanishes_later_is_an_error_worth_a_retry(certificates: Certificates) -> None:
    kafka = settings(kafka_security_protocol="SSL", kafka_ca_file=certificates.authority)
    certificates.authority.unlink()

    with pytest.raises(OSError, match=r"KAFKA_CA_FILE=.*No such file or directory"):
        kafka.client_options()


def test_an_empty_variable_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text("KAFKA_SECURITY_PROTOCOL=SASL_SSL\nKAFKA_USERNAME=ingress\nKAFKA_PASSWORD=hunter2\n")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    for name in ("KAFKA_USERNAME", "KAFKA_PASSWORD", "KAFKA_CA_FILE"):
        monkeypatch.setenv(name, "")

    kafka = KafkaSettings(_env_file=file)

    assert (kafka.kafka_username, kafka.kafka_password, kafka.kafka_ca_file) == (None, None, None)


def test_no_password_is_shown_by_settings_or_their_errors() -> None:
    shown = repr(settings(kafka_security_protocol="SASL_PLAINTEXT", **NAMED))
    with pytest.raises(ValidationError) as refused:
        settings(**NAMED)

    assert "hunter2" not in shown + str(refused.value) + repr(refused.value)


@pytest.mark.process
@pytest.mark.parametrize(
    "program",
    [
        ["topics", "check"],
        ["operators", "audit"],
        ["operators", "worker", "reservations"],
        ["operators", "worker", "expiry"],
        ["operators", "ingress", "--port", "0"],
    ],
    ids=" ".join,
)
def test_every_program_refuses_to_start_in_a_plain_sentence(
    program: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_PASSWORD", "hunter2")

    done = subprocess.run([sys.executable, "-m", *program], stderr=subprocess.PIPE, text=True, check=False)

    sentence = "KAFKA_SECURITY_PROTOCOL=SASL_SSL needs both KAFKA_USERNAME and KAFKA_PASSWORD.\n"
    assert (done.returncode, done.stderr.endswith(sentence)) == (78, True), done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_every_client_of_the_broker_is_made_from_the_settings() -> None:
    rooms = ("topics", "pricing", "storage", "workers", "ingress", "operators", "telemetry", "sandbox", "benchmarks")
    root = Path(__file__).parents[3]
    calls = [
        (f"{path.relative_to(root)}:{node.lineno}", node)
        for room in rooms
        for path in (root / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in CLIENTS
    ]

    without = [line for line, call in calls if not any(_is_from_settings(each) for each in call.keywords)]

    assert len(calls) > 5
    assert without == []


def _is_from_settings(keyword: ast.keyword) -> bool:
    return keyword.arg is None and ast.unparse(keyword.value).endswith(".client_options()")


@pytest.mark.process
def test_a_secret_may_be_a_file_and_the_environment_goes_before_it(tmp_path: Path) -> None:
    (tmp_path / "kafka_password").write_text("from a file\n")
    (tmp_path / "kafka_username").write_text("file")
    password = "repr(s.kafka_password.get_secret_value())"
    show = f"from topics.kafka.settings import KafkaSettings as S; s = S(); print(s.kafka_username, {password})"
    done = subprocess.run(
        [sys.executable, "-c", show],
        env={
            "SECRETS_FOLDER": str(tmp_path),
            "KAFKA_USERNAME": "environment",
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "environment 'from a file'\n"
