"""nginx in front of two ingress processes, with the configuration that is deployed."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.client import Answer
from tests.system.deploy.conftest import Deployed, deployed

pytestmark = pytest.mark.system


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployed]:
    """Two ingress processes behind one nginx that count requests; no token comes back during the tests."""
    counting = {"RATE_LIMITS": "true", "ADDRESS_REQUESTS_PER_MINUTE": "1"}
    async with deployed(tmp_path_factory.mktemp("nginx"), environment=counting) as house:
        yield house


@pytest.mark.asyncio(loop_scope="module")
async def test_both_processes_are_asked_and_count_for_the_same_client(house: Deployed) -> None:
    house.guests.token, token = None, house.guests.token
    answers = [
        await house.guests.ask_until_answered("GET", "/v1/hotels/1/info", headers={"X-Forwarded-For": f"192.0.2.{n}"})
        for n in range(8)
    ]
    house.guests.token = token

    assert {answer.status for answer in answers} == {200}
    by_process: dict[str, list[int]] = {}
    for answer in answers:
        by_process.setdefault(answer.process, []).append(_left(answer.headers["RateLimit"]))
    assert len(by_process) == 2
    # One client, with any address that it claims: each time there are fewer left.
    assert all(left[-1] < left[0] for left in by_process.values()), by_process


@pytest.mark.asyncio(loop_scope="module")
async def test_a_request_that_waits_is_answered_by_either_process(house: Deployed) -> None:
    answers = [
        await house.guests.ask_until_answered("POST", "/v1/bookings/init", house.guests.stay(number), wait=True)
        for number in range(4)
    ]
    assert [answer.status for answer in answers] == [201] * 4
    assert len({answer.process for answer in answers}) == 2


@pytest.mark.asyncio(loop_scope="module")
async def test_plain_http_is_redirected(house: Deployed) -> None:
    async with house.guests.session.get(f"{house.proxy.plain_url}/v1/hotels/1/info", allow_redirects=False) as answer:
        assert answer.status == 308
        assert answer.headers["Location"] == "https://127.0.0.1/v1/hotels/1/info"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_process_that_stops_is_left_out_without_a_failed_request(house: Deployed) -> None:
    """The last test: it leaves no ingress to ask."""
    stopping = asyncio.create_task(house.system.stop_part("ingress-2"))
    answers: list[Answer] = []
    while not stopping.done() or len(answers) < 50:
        answers.append(await house.guests.ask("GET", "/health/live"))
    await stopping
    assert {answer.status for answer in answers} == {200}

    await house.system.kill_part("ingress")
    away = await house.guests.ask("GET", "/health/live")
    assert away.status == 503
    assert away.headers["Retry-After"] == "1"
    assert "Idempotency-Key" in away.body["detail"]


def _left(rate_limit: str) -> int:
    return int(rate_limit.partition("r=")[2].partition(";")[0])
