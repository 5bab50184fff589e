"""The broker's second profile: every client authenticates, and has the rights of the catalogue alone."""

import asyncio
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Final, Literal

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest
from typing_extensions import override

from sandbox.kafka.broker import Kafka
from sandbox.kafka.certificates import Certificates
from sandbox.kafka.probe import NO_NAME, answers, as_client
from sandbox.ports import free_port
from sandbox.spawning import PROCESS_POLL_SECONDS, StartFailed
from topics.catalogue import Service
from topics.kafka.acls import Grant, grants
from topics.kafka.settings import KafkaSettings

Protocol = Literal["SASL_SSL", "SSL", "SASL_PLAINTEXT"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Way = tuple[Protocol, Mechanism]
MECHANISMS: Final[tuple[Mechanism, ...]] = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
#: The account that may do everything: of the broker itself, and of its administrator.
BROKER: Final = "broker"
#: An account without any rights on our topics.
STRANGER: Final = "stranger"
ACCOUNTS: Final = (BROKER, STRANGER, *(service.value for service in Service if service.ours))

# The roles authenticate in different ways, so that a run of them all has tried every one.
_USUAL_WAY: Final[Way] = ("SASL_SSL", "SCRAM-SHA-512")
_WAYS: Final[Mapping[str, Way]] = {
    "payments": ("SASL_SSL", "PLAIN"),
    "expiry": ("SASL_PLAINTEXT", "SCRAM-SHA-256"),
    "projections": ("SSL", "PLAIN"),
}
_PLAIN: Final = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM: Final = "org.apache.kafka.common.security.scram.ScramLoginModule"
# Kafka's numbers for what its tools have names for.
_RESOURCES: Final = {"topic": 2, "group": 3}
_OPERATIONS: Final = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
_LITERAL: Final = 3
_ALLOW: Final = 3
_ANY: Final = 1
_ANY_HOST: Final = "*"


class SecuredKafka(Kafka):
    """A broker at which each role of ours has an account, with a password and a certificate of its own.

    `url` speaks SASL_SSL; further ports speak SASL_PLAINTEXT, and SSL to clients with a certificate. The variables of
    each role are also in a file of `clients`, such as `operators.env`.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port)
        self._ports: dict[Protocol, int] = {
            "SASL_SSL": self.port,
            "SSL": free_port(),
            "SASL_PLAINTEXT": free_port(),
        }
        self._certificates = Certificates(self.folder / "certificates")
        self._passwords: Mapping[str, str] = {}

    @override
    def variables(self, principal: str | None = None, way: Way | None = None) -> Mapping[str, str]:
        """The variables with which a process comes in as one of `ACCOUNTS`, or tries to without a name."""
        protocol, mechanism = way or _WAYS.get(principal or "", _USUAL_WAY)
        found = {**NO_NAME, "KAFKA_URL": f"127.0.0.1:{self._ports[protocol]}", "KAFKA_SECURITY_PROTOCOL": protocol}
        if principal is None:
            return {**found, "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}
        if protocol != "SASL_PLAINTEXT":
            found["KAFKA_CA_FILE"] = str(self._certificates.authority)
        if protocol == "SSL":
            return {**found, "KAFKA_CERTIFICATE_FILE": str(self._certificates.of(principal))}
        name = {"KAFKA_USERNAME": principal, "KAFKA_PASSWORD": self._passwords[principal]}
        return {**found, **name, "KAFKA_SASL_MECHANISM": mechanism}

    @override
    async def start(self, *, without_deadline: bool = False) -> None:
        """Start the broker, and let it know who may do what."""
        await super().start(without_deadline=without_deadline)
        # A client finds the same prefix in the environment as we do.
        prefix = {"TOPIC_PREFIX": os.environ.get("TOPIC_PREFIX", "")}
        administrator = as_client({**self.variables(BROKER), **prefix})
        await _allow(administrator, grants(administrator))

    @override
    async def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._certificates.make(*ACCOUNTS)
        self._passwords = _passwords(self.folder / "passwords.json")
        for name in ACCOUNTS:
            self._write_down(name)
        await super().prepare()

    @override
    async def is_ready(self) -> bool:
        return await answers(self.variables(BROKER), self.node_id)

    @override
    def accounts(self) -> Sequence[str]:
        return [
            word
            for name, password in self._passwords.items()
            for mechanism in MECHANISMS[1:]
            for word in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]

    @override
    def listeners(self) -> Mapping[str, object]:
        addresses = [f"{protocol}://127.0.0.1:{port}" for protocol, port in self._ports.items()]
        settings: dict[str, object] = {
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join([*addresses, f"CONTROLLER://127.0.0.1:{self.controller_port}"]),
            "advertised.listeners": ",".join(addresses),
            "listener.security.protocol.map": "CONTROLLER:SASL_PLAINTEXT,"
            + ",".join(f"{protocol}:{protocol}" for protocol in self._ports),
            "inter.broker.listener.name": "SASL_PLAINTEXT",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.mechanism.controller.protocol": "PLAIN",
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{BROKER}",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self._certificates.of(BROKER),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self._certificates.authority,
            "listener.name.ssl.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
        }
        for listener in ("controller", "sasl_plaintext", "sasl_ssl"):
            settings[f"listener.name.{listener}.plain.sasl.jaas.config"] = self._plain_accounts()
            for mechanism in MECHANISMS[1:]:
                settings[f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config"] = f"{_SCRAM} required;"
        return settings

    def _write_down(self, name: str) -> None:
        path = self.folder / "clients" / f"{name}.env"
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
        known = {variable: value for variable, value in self.variables(name).items() if value}
        path.write_text("".join(f"{variable}={quote(value)}\n" for variable, value in known.items()))

    def _plain_accounts(self) -> str:
        known = " ".join(f'user_{name}="{password}"' for name, password in self._passwords.items())
        return f'{_PLAIN} required username="{BROKER}" password="{self._passwords[BROKER]}" {known};'


def _passwords(path: Path) -> Mapping[str, str]:
    """Return everybody's password, as old as the folder: the broker has learnt them when it was formatted."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(json.dumps({name: secrets.token_urlsafe(18) for name in ACCOUNTS}))
    found: dict[str, str] = json.loads(path.read_text())
    return found


async def _allow(kafka: KafkaSettings, allowed: Sequence[Grant]) -> None:
    """Give the roles their rights; those that they have already stay as they are."""
    client = AIOKafkaClient(**kafka.client_options())
    try:
        await client.bootstrap()
        node = client.get_random_node()
        rights = {
            (_RESOURCES[grant.resource], grant.name, f"User:{grant.role}", _OPERATIONS[operation])
            for grant in allowed
            for operation in grant.operations
        }
        requests = [
            CreateAclsRequest(resource, name, _LITERAL, principal, _ANY_HOST, operation, _ALLOW)
            for resource, name, principal, operation in rights
        ]
        for answer in await asyncio.gather(*(client.send(node, request) for request in requests)):
            for error, message in answer.creation_responses:
                if error:
                    raise StartFailed(f"kafka refuses an ACL: {message or for_code(error).description}")
        # The cluster has stored them; the broker may read them a moment later.
        while not rights <= await _known(client, node):
            await asyncio.sleep(PROCESS_POLL_SECONDS)
    finally:
        await client.close()


async def _known(client: AIOKafkaClient, node: int) -> set[tuple[int, str, str, int]]:
    """Return who may do what, as the broker knows it now: resource, its name, principal, operation."""
    answer = await client.send(node, DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY))
    return {
        (resource, name, principal, operation)
        for resource, name, _, rights in answer.resources
        for principal, _, operation, _ in rights
    }
