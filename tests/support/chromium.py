"""A browser without a window, by its DevTools protocol: the requests of a page, its errors and its looks."""

import asyncio
import base64
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.waiting import MAX_WAIT_SECONDS, wait_until

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: Messages of these levels appear in red in the console of a person.
_COMPLAINTS: Final = ("error", "warning")


class Page:
    """One open tab; `requested` are the addresses that it asked for, `complaints` the errors in its console."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requested: list[str] = []
        self.complaints: list[str] = []
        self._socket = socket
        self._session_id: str | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def open(self, url: str) -> None:
        """Go there."""
        target = await self._call("Target.createTarget", url="about:blank")
        attached = await self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session_id = attached["sessionId"]
        for domain in ("Network", "Runtime", "Log", "Page"):
            await self._call(f"{domain}.enable")
        await self._call("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        answer = await self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def shows(self, expression: str, seconds: float = MAX_WAIT_SECONDS) -> None:
        """Wait until a JavaScript expression is true in the page."""

        async def true() -> bool:
            return bool(await self.evaluate(expression))

        await wait_until(true, seconds, lambda: f"{expression}; the console has {self.complaints}")

    async def screenshot(self) -> bytes:
        """Return what the tab shows, as PNG."""
        answer = await self._call("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])

    async def listen(self) -> None:
        """Read the messages of the browser, until cancelled."""
        async for message in self._socket:
            answer = message.json()
            if "id" in answer:
                self._answers.pop(answer["id"]).set_result(answer)
            else:
                self._note(answer["method"], answer.get("params", {}))

    def _note(self, event: str, parameters: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif event == "Log.entryAdded" and parameters["entry"]["level"] in _COMPLAINTS:
            self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif event == "Runtime.consoleAPICalled" and parameters["type"] in (*_COMPLAINTS, "assert"):
            self.complaints.append(str([value.get("value", value.get("description")) for value in parameters["args"]]))

    async def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        request = {"id": number, "method": method, "params": parameters}
        if self._session_id is not None:
            request["sessionId"] = self._session_id
        await self._socket.send_json(request)
        async with asyncio.timeout(MAX_WAIT_SECONDS):
            answer = await self._answers[number]
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]


@asynccontextmanager
async def open_page(folder: Path) -> AsyncIterator[Page]:
    """Start a browser with a profile in this folder, and hand out a tab."""
    assert CHROMIUM is not None
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--window-size=1280,900",
        "--disable-background-networking",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        stderr=asyncio.subprocess.PIPE,
    )
    assert browser.stderr is not None
    reading = None
    try:
        address = await _address(browser.stderr)
        # Later output is read too, as the pipe must not fill.
        reading = asyncio.create_task(browser.stderr.read())
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            page = Page(socket)
            listening = asyncio.create_task(page.listen())
            try:
                yield page
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
    finally:
        if browser.returncode is None:
            browser.kill()
        await browser.wait()
        if reading is not None:
            await reading


async def _address(stderr: asyncio.StreamReader) -> str:
    async with asyncio.timeout(MAX_WAIT_SECONDS):
        while line := await stderr.readline():
            before, found, address = line.decode().partition("DevTools listening on ")
            if found and not before:
                return address.strip()
    raise AssertionError("the browser ended before it listened")
