"""Parts run at the locations of their plan: at another address, through a proxy, behind nginx."""

from pathlib import Path

import psutil

from sandbox.kafka import Kafka
from sandbox.locations import Location
from sandbox.nginx import Nginx
from sandbox.postgres import Postgres
from sandbox.processes import ManagedProcess
from sandbox.system import Plan, System
from tests.support.waiting import wait_until


def test_clients_reach_a_part_at_its_location(tmp_path: Path) -> None:
    locations = {"stripe": Location(host="198.18.7.2", port=1200), "ingress-2": Location(host="198.18.7.3", port=1300)}
    system = System(Plan(folder=tmp_path, ingress=2, port=1100, locations=locations, own_servers=True))

    assert system.urls == ["http://127.0.0.1:1100", "http://198.18.7.3:1300"]
    assert system.url == "http://127.0.0.1:1100"
    assert system.stripe_url == "http://198.18.7.2:1200"


def test_clients_of_a_plan_with_a_proxy_use_the_proxy(tmp_path: Path) -> None:
    system = System(Plan(folder=tmp_path, public_url="http://198.18.7.9:80", own_servers=True))

    assert system.url == "http://198.18.7.9:80"
    assert system.urls != [system.url]


def test_servers_listen_at_their_address(tmp_path: Path) -> None:
    kafka, postgres = Kafka(tmp_path, 1400, host="198.18.7.4"), Postgres(tmp_path, 1500, host="198.18.7.5")

    assert kafka.url == "198.18.7.4:1400"
    assert kafka.listeners()["advertised.listeners"] == "PLAINTEXT://198.18.7.4:1400"
    assert "@198.18.7.5:1500/" in postgres.url
    assert "listen_addresses=198.18.7.5" in postgres.command()


def test_a_broker_sends_clients_that_come_through_a_proxy_to_the_proxy_again(tmp_path: Path) -> None:
    kafka = Kafka(tmp_path, 1400, doors={1401: 2401})

    listeners = kafka.listeners()

    assert str(listeners["listeners"]).startswith("PLAINTEXT://127.0.0.1:1400,DOOR1401://127.0.0.1:1401,CONTROLLER://")
    assert listeners["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1400,DOOR1401://127.0.0.1:2401"
    assert listeners["listener.security.protocol.map"] == "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,DOOR1401:PLAINTEXT"


async def test_a_prefix_becomes_the_program_that_it_starts() -> None:
    class Waiting(ManagedProcess):
        def command(self) -> list[str]:
            return ["sleep", "60"]

    process = Waiting("waiting")
    process.prefix = ("nice", "--")
    async with process:
        await wait_until(lambda: psutil.Process(process.pid).cmdline() == ["sleep", "60"], message="it is the program")


async def test_nginx_without_tls_is_configured_as_with_it_but_for_that(tmp_path: Path) -> None:
    location = Location(host="198.18.7.6")
    plain, encrypted = (
        Nginx(tmp_path / str(tls), ["http://198.18.7.3:1300"], location=location, tls=tls) for tls in (False, True)
    )
    for nginx in (plain, encrypted):
        nginx._port, nginx._plain_port = 1600, 1700
        await nginx.prepare()

    with_tls, without = ((nginx.folder / "innkeeper.conf").read_text() for nginx in (encrypted, plain))
    with_tls = with_tls.replace(str(encrypted.folder), str(plain.folder))
    assert without == with_tls.replace("listen 198.18.7.6:1600 ssl;", "listen 198.18.7.6:1600;") != with_tls
    assert (plain.url, encrypted.url) == ("http://198.18.7.6:1600", "https://198.18.7.6:1600")
