"""Redis, in which several ingress processes count together; none of them waits long for it, and none stops without it.

The questions of all requests at one time are one message on one connection, which is cheapest under the highest load.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError

from ingress.limits.counting import Script
from topics import ended_connections

log = logging.getLogger(__name__)

#: After this time without an answer every process counts by itself.
MAX_ANSWER_SECONDS: Final = 0.05
_REDIS_CONNECT_SECONDS: Final = 2.0
_RECONNECT_SECONDS: Final = 0.5
_KEY_PREFIX: Final = "innkeeper:"
#: A key that is never written.
_NO_KEY: Final = f"{_KEY_PREFIX}none"


class _Question(NamedTuple):
    script: Script
    keys: Sequence[str]
    arguments: Sequence[int]
    answer: asyncio.Future[int | None]


class RedisLink:
    """Asks Redis while it answers; `run` sends the questions, and looks for Redis when it is away."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet. The URL may have a password, so it is never logged."""
        # This module alone sets the timeouts.
        self._redis = Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), protocol=2, socket_timeout=None, socket_connect_timeout=None
        )
        self._loaded: set[Script] = set()
        self._questions: list[_Question] = []
        self._any_question = asyncio.Event()
        self.ready = False

    async def ask(self, script: Script, keys: Sequence[str], arguments: Sequence[int]) -> int | None:
        """Run a script on keys of ours; None when Redis is away or too slow."""
        if not self.ready:
            return None
        question = _Question(script, keys, arguments, asyncio.get_running_loop().create_future())
        self._questions.append(question)
        self._any_question.set()
        return await question.answer

    async def run(self) -> None:
        """Answer questions until the process ends; an outage is logged once."""
        reported = False
        try:
            while True:
                try:
                    with ended_connections.raises_os_error():
                        await self._find()
                        log.info("Redis counts for all processes")
                        reported = False
                        await self._answer_all()
                except (RedisError, OSError, TimeoutError) as error:
                    if not reported:
                        log.warning(
                            "Redis is %s (%r); until it counts again this process counts by itself",
                            _state_after(error),
                            error,
                        )
                    reported = True
                self._let_go([])
                await asyncio.sleep(_RECONNECT_SECONDS)
        finally:
            self._let_go([])
            await self._redis.aclose()

    async def _find(self) -> None:
        async with asyncio.timeout(_REDIS_CONNECT_SECONDS):
            await self._redis.ping()
        # To connect may take longer than to answer. A Redis that is slow even now would only delay all requests. One
        # that is full or read-only answers, and refuses commands that may write. This one writes only what is there.
        async with asyncio.timeout(MAX_ANSWER_SECONDS):
            await self._redis.set(_NO_KEY, 0, xx=True)
        # A Redis that was restarted has no scripts.
        self._loaded.clear()
        self.ready = True

    async def _answer_all(self) -> None:
        while True:
            await self._any_question.wait()
            self._any_question.clear()
            questions, self._questions = self._questions, []
            try:
                async with asyncio.timeout(MAX_ANSWER_SECONDS):
                    answers = await self._answers(questions)
            except BaseException:
                self._let_go(questions)
                raise
            for question, answer in zip(questions, answers, strict=True):
                if not question.answer.done():
                    question.answer.set_result(answer)

    async def _answers(self, questions: Sequence[_Question]) -> list[int]:
        new = {question.script for question in questions} - self._loaded
        async with self._redis.pipeline(transaction=False) as message:
            for script in new:
                message.script_load(script.source)
            for script, keys, arguments, _ in questions:
                message.evalsha(script.sha, len(keys), *(_KEY_PREFIX + key for key in keys), *arguments)
            answers = await message.execute()
        self._loaded |= new
        return answers[len(new) :]

    def _let_go(self, questions: Sequence[_Question]) -> None:
        """Answer all open questions, and these, with None: their requests count by themselves."""
        self.ready = False
        for question in (*questions, *self._questions):
            if not question.answer.done():
                question.answer.set_result(None)
        self._questions.clear()
        self._any_question.clear()


def _state_after(error: Exception) -> str:
    match error:
        case OutOfMemoryError():
            return "full"
        case ReadOnlyError():
            return "read-only"
        case _:
            return "away"
