"""`innkeeper ingress` as a process: how it starts, refuses to start, and stops."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr, ValidationError

from ingress.settings import IngressSettings
from ingress.tokens import Tokens
from storage.settings import DatabaseSettings
from tests.ingress.house import STAY, StandInWorker, open_hotel
from tests.support.waiting import wait_until

SAFE = {
    "ENVIRONMENT": "production",
    "JWT_SECRET_KEY": "a key that only tests know, of some length",
    "STRIPE_WEBHOOK_SECRET": "whsec_of_the_stand_in",
    "DATABASE_URL": "postgresql://somebody:something@127.0.0.1:1/innkeeper",
}
#: The longest wait for a line of a process, or for its end.
HANGS_SECONDS = 240.0
#: The broker may take its time: these tests do not try its limit.
SLOW_BROKER = {"ACK_SECONDS": "60"}


@asynccontextmanager
async def _process(environment: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operators", "ingress", "--port", "0"),
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _find_line(process: asyncio.subprocess.Process, pattern: str) -> re.Match[str]:
    assert process.stderr is not None
    async with asyncio.timeout(HANGS_SECONDS):
        while line := (await process.stderr.readline()).decode():
            if found := re.search(pattern, line):
                return found
    raise AssertionError(f"no line matches {pattern}")


async def test_after_a_signal_to_stop_it_answers_waiting_requests_and_ends_cleanly(
    environment: dict[str, str], database: DatabaseSettings, stand_in: StandInWorker
) -> None:
    await open_hotel(database)
    tokens = Tokens(IngressSettings(_env_file=None, jwt_secret_key=SecretStr(environment["JWT_SECRET_KEY"])))
    headers = {"Authorization": f"Bearer {tokens.issue(1, ['GUEST'])}", "Prefer": "wait=30"}
    async with _process(environment | SLOW_BROKER) as process:
        url = (await _find_line(process, r"listening at (\S+)"))[1]
        async with aiohttp.ClientSession(url) as session:

            async def ready() -> bool:
                async with session.get("/health/ready") as response:
                    return response.status == 200

            await wait_until(ready)
            waiting = asyncio.create_task(session.post("/v1/bookings/init", json=STAY, headers=headers))
            await stand_in.next_command()
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(HANGS_SECONDS):
                assert (await waiting).status == 202
                assert await process.wait() == 0


async def test_topics_with_another_number_of_partitions_stop_it(environment: dict[str, str]) -> None:
    async with _process(environment | {"TOPIC_PARTITIONS": "5"}) as process:
        await _find_line(process, r"booking\.commands has 4 partitions, not 5")
        async with asyncio.timeout(HANGS_SECONDS):
            assert await process.wait() == os.EX_CONFIG


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY is shorter than 32 bytes"),
        ({"BOOKING_ID_KEY": "short"}, "BOOKING_ID_KEY is shorter than 32 bytes"),
        ({"STRIPE_WEBHOOK_SECRET": "whsec_1"}, "STRIPE_WEBHOOK_SECRET is shorter than 16 bytes"),
        ({"STRIPE_WEBHOOK_SECRET": " , "}, "STRIPE_WEBHOOK_SECRET is empty"),
        ({"JWT_SECRET_KEY": None}, "JWT_SECRET_KEY is not set"),
        ({"STRIPE_WEBHOOK_SECRET": None}, "STRIPE_WEBHOOK_SECRET is not set"),
        ({"BCRYPT_ROUNDS": "10"}, "BCRYPT_ROUNDS is below 12"),
    ],
)
def test_unsafe_settings_refuse_to_start_as_production_without_showing_them(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], sentence: str
) -> None:
    for name, value in (SAFE | changes).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=sentence) as refused:
        IngressSettings(_env_file=None)
    message = str(refused.value)
    assert not any(secret in message for secret in ("a key that only", "whsec_of", "whsec_1"))


@pytest.mark.process
async def test_a_refused_start_is_explained_in_one_sentence() -> None:
    async with _process(SAFE | {"JWT_SECRET_KEY": "short"}) as process:
        _, output = await process.communicate()
        assert process.returncode == os.EX_CONFIG
        assert output.decode() == "JWT_SECRET_KEY is shorter than 32 bytes.\n"


def test_secrets_are_not_shown() -> None:
    values: dict[str, Any] = {name.lower(): value for name, value in SAFE.items()}
    settings = IngressSettings(_env_file=None, **values)
    assert "a key that only" not in repr(settings)
    assert "whsec_of" not in repr(settings)
