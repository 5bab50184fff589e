"""Redis, where several ingress processes count together; none of them waits long for it, and none stops without it.

All requests that ask at the same time are one message on one connection: it costs least when there is most to do.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ingress.limits.counting import Script

log = logging.getLogger(__name__)

#: An answer that takes longer is not waited for; then every process counts by itself.
PATIENCE_SECONDS: Final = 0.05
_CONNECT_SECONDS: Final = 2.0
_LOOK_AGAIN_SECONDS: Final = 0.5
_PREFIX: Final = "innkeeper:"


class _Question(NamedTuple):
    script: Script
    keys: Sequence[str]
    arguments: Sequence[int]
    answer: asyncio.Future[int | None]


class RedisLink:
    """Asks Redis while it answers; `run` does the asking, and looks for it when it went away."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet. The URL may hold a password: it is never told."""
        # How long is waited is said here alone.
        self._redis = Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), protocol=2, socket_timeout=None, socket_connect_timeout=None
        )
        self._loaded: set[Script] = set()
        self._questions: list[_Question] = []
        self._asked = asyncio.Event()
        self.ready = False

    async def ask(self, script: Script, keys: Sequence[str], arguments: Sequence[int]) -> int | None:
        """Run a script on keys of ours; None when Redis is away or too slow."""
        if not self.ready:
            return None
        question = _Question(script, keys, arguments, asyncio.get_running_loop().create_future())
        self._questions.append(question)
        self._asked.set()
        return await question.answer

    async def run(self) -> None:
        """Answer what is asked, for as long as the process lives; an outage is told once."""
        told = False
        try:
            while True:
                try:
                    await self._find()
                    log.info("Redis counts for all processes")
                    told = False
                    await self._answer_all()
                except (RedisError, OSError, TimeoutError) as error:
                    if not told:
                        log.warning("Redis is away (%r); until it is back this process counts by itself", error)
                    told = True
                self._let_go([])
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        finally:
            self._let_go([])
            await self._redis.aclose()

    async def _find(self) -> None:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await self._redis.ping()
        # To connect may take longer than to answer. One that is slow even now would only make everybody wait.
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._redis.ping()
        # A Redis that was started anew knows no scripts.
        self._loaded.clear()
        self.ready = True

    async def _answer_all(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            questions, self._questions = self._questions, []
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
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
                message.evalsha(script.sha, len(keys), *(_PREFIX + key for key in keys), *arguments)
            answers = await message.execute()
        self._loaded |= new
        return answers[len(new) :]

    def _let_go(self, questions: Sequence[_Question]) -> None:
        """Leave everybody who waits, those with these questions too, to count by themselves."""
        self.ready = False
        for question in (*questions, *self._questions):
            if not question.answer.done():
                question.answer.set_result(None)
        self._questions.clear()
        self._asked.clear()
