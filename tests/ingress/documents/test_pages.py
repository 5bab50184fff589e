"""The pages for people: whole, from us alone, and without a complaint of the browser's."""

import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from ingress.documents.events_page import events_page
from ingress.documents.openapi import document
from ingress.documents.pages import Pages
from ingress.http.problems import answer_problems
from tests.ingress.table import rows
from tests.support.chromium import CHROMIUM, Page, open_page
from topics import asyncapi
from topics.envelope import EVERY_VERSION

pytestmark = pytest.mark.process

_SCHEMAS = json.loads(asyncapi.PUBLISHED.read_text())["components"]["schemas"]
#: The objects and words that fields of messages have; a schema refers to each of them.
VALUES = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(_SCHEMAS)))

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


@pytest.fixture
async def site() -> AsyncIterator[aiohttp.ClientSession]:
    """The pages alone: they need no database and no broker."""
    app = web.Application(middlewares=[answer_problems])
    app.add_routes(Pages(rows()).routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession(f"http://{host}:{port}", auto_decompress=False) as session:
            yield session
    finally:
        await runner.cleanup()


async def test_the_document_is_served_as_it_is_made(site: aiohttp.ClientSession) -> None:
    async with site.get("/openapi.json", headers={"Accept-Encoding": "identity"}) as response:
        assert response.content_type == "application/json"
        assert await response.json() == document(rows())


async def test_a_client_with_the_present_document_gets_it_no_second_time(site: aiohttp.ClientSession) -> None:
    async with site.get("/openapi.json") as first:
        etag = first.headers["ETag"]
    async with site.get("/openapi.json", headers={"If-None-Match": etag}) as again:
        assert (again.status, await again.read()) == (304, b"")
    async with site.get("/openapi.json", headers={"If-None-Match": '"another"'}) as changed:
        assert changed.status == 200


@pytest.mark.parametrize("page", ["/", "/docs", "/redoc", "/events"])
async def test_a_page_runs_no_script_but_ours_and_names_nothing_outside(site: aiohttp.ClientSession, page: str) -> None:
    async with site.get(page, headers={"Accept-Encoding": "identity"}) as response:
        policy, text = response.headers["Content-Security-Policy"], await response.text()

    assert response.content_type == "text/html"
    assert "default-src 'none'; script-src 'self';" in policy
    assert not re.search(r"<script(?! src=)|https?:|\son\w+=", text)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_the_files_of_a_page_are_kept_for_ever_and_come_packed(site: aiohttp.ClientSession, page: str) -> None:
    async with site.get(page, headers={"Accept-Encoding": "identity"}) as response:
        assets = re.findall(r'(?:src|href)="(/[^"]+)"', await response.text())

    assert len(assets) == 3
    for asset in assets:
        async with site.get(asset, headers={"Accept-Encoding": "gzip"}) as response:
            packed = await response.read()
            assert response.status == 200
            assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        async with site.get(asset, headers={"Accept-Encoding": "identity"}) as response:
            plain = await response.read()
        assert (gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed) == plain
        assert len(packed) <= len(plain)


async def test_the_first_page_describes_the_system_and_links_to_documents_events_and_health(
    site: aiohttp.ClientSession,
) -> None:
    async with site.get("/", headers={"Accept-Encoding": "identity"}) as response:
        text = await response.text()

    assert "hotel-booking" in text
    assert "<script" not in text
    assert set(re.findall(r'<a href="([^"]+)"', text)) == {
        "/docs",
        "/redoc",
        "/openapi.json",
        "/events",
        "/asyncapi.json",
        "/health/ready",
    }


async def test_the_head_of_the_first_page_is_that_of_a_get(site: aiohttp.ClientSession) -> None:
    plain = {"Accept-Encoding": "identity"}
    async with site.get("/", headers=plain) as whole, site.head("/", headers=plain) as head:
        assert (head.status, await head.read()) == (200, b"")
        for name in ("Content-Type", "ETag", "Content-Length"):
            assert head.headers[name] == whole.headers[name]


@in_a_browser
async def test_a_browser_shows_the_first_page_and_asks_nobody_else(site: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with open_page(tmp_path / "profile") as tab:
        await tab.open(f"{address_of(site)}/")
        await tab.shows("document.querySelectorAll('main li a').length === 6")
        await tab.shows("getComputedStyle(document.body).maxWidth !== 'none'")

        assert tab.complaints == []
        assert hosts_of(tab) == {address_of(site)}


async def test_an_asset_of_another_version_is_not_there(site: aiohttp.ClientSession) -> None:
    async with site.get("/assets/0123456789abcdef/docs.js") as response:
        assert response.status == 404


async def test_the_document_of_events_is_served_as_it_is_published(site: aiohttp.ClientSession) -> None:
    async with site.get("/asyncapi.json", headers={"Accept-Encoding": "identity"}) as response:
        assert response.content_type == "application/json"
        assert await response.read() == asyncapi.PUBLISHED.read_bytes()


async def test_the_page_of_events_has_every_message_in_every_version_and_no_script(site: aiohttp.ClientSession) -> None:
    async with site.get("/events", headers={"Accept-Encoding": "identity"}) as response:
        text = await response.text()

    assert "<script" not in text
    messages, values = text.split('id="values"')
    assert sorted(re.findall(r'<section id="([^"]+)"', messages)) == sorted(EVERY_VERSION)
    assert sorted(re.findall(r'<section id="([^"]+)"', values)) == sorted(VALUES)
    inside = set(re.findall(r'href="#([^"]+)"', text))
    assert inside == set(re.findall(r' id="([^"]+)"', text)), "a link leads nowhere, or nobody leads there"


def test_the_texts_on_the_page_of_events_are_no_markup() -> None:
    published = json.loads(asyncapi.PUBLISHED.read_text())
    published["components"]["messages"]["booking.expired.v1"]["description"] = "<b>& `x<y`"
    published["components"]["messages"]["booking.expired.v1"]["examples"][0]["payload"] = {"x": "</pre>"}

    page = events_page(published, "/style.css")

    assert "&lt;b&gt;&amp; <code>x&lt;y</code>" in page
    assert "&lt;/pre&gt;" in page


@in_a_browser
async def test_a_browser_shows_every_event_and_asks_nobody_else(site: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with open_page(tmp_path / "profile") as tab:
        await tab.open(f"{address_of(site)}/events#inventory.changed.v2")
        await tab.shows(f"document.querySelectorAll('section').length === {len(EVERY_VERSION) + len(VALUES)}")
        await tab.shows("getComputedStyle(document.body).display === 'grid'")
        assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it is wider than the window"
        await tab.shows("document.querySelector('section:target summary') !== null")
        await tab.evaluate("document.querySelector('section:target summary').click()")
        await tab.shows("document.querySelector('section:target pre').checkVisibility()")
        (tmp_path / "page.png").write_bytes(await tab.screenshot())

        assert tab.complaints == []
        assert hosts_of(tab) == {address_of(site)}


@in_a_browser
async def test_a_browser_shows_all_operations_to_try_and_asks_nobody_else(
    site: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with open_page(tmp_path / "profile") as tab:
        await tab.open(f"{address_of(site)}/docs")
        await tab.shows(f"document.querySelectorAll('.opblock').length === {len(rows())}")
        await tab.shows("document.querySelector('#operations-bookings-init .opblock-summary-control') !== null")
        await tab.evaluate("document.querySelector('#operations-bookings-init .opblock-summary-control').click()")
        await tab.shows("document.querySelector('#operations-bookings-init .responses-table') !== null")
        await tab.evaluate("document.querySelector('#operations-bookings-init').scrollIntoView()")
        (tmp_path / "page.png").write_bytes(await tab.screenshot())

        assert tab.complaints == []
        assert hosts_of(tab) == {address_of(site)}


@in_a_browser
async def test_a_browser_shows_all_operations_to_read_finds_them_and_asks_nobody_else(
    site: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with open_page(tmp_path / "profile") as tab:
        await tab.open(f"{address_of(site)}/redoc")
        await tab.shows(f"document.querySelectorAll('[data-section-id*=\"operation/\"]').length >= {len(rows())}")
        await tab.shows("document.querySelector('input[placeholder]') !== null")
        await tab.evaluate(
            """(() => {
                const box = document.querySelector("input[placeholder]");
                Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(box, "webhook");
                box.dispatchEvent(new Event("input", {bubbles: true}));
            })()"""
        )
        await tab.shows("document.querySelectorAll('[data-role=\"search:results\"] li').length > 0")
        (tmp_path / "page.png").write_bytes(await tab.screenshot())

        assert tab.complaints == []
        assert hosts_of(tab) == {address_of(site)}


def address_of(site: aiohttp.ClientSession) -> str:
    return str(site._build_url("/")).rstrip("/")


def hosts_of(tab: Page) -> set[str]:
    parts = [urlsplit(url) for url in tab.requested if not url.startswith(("data:", "blob:"))]
    return {f"{each.scheme}://{each.netloc}" for each in parts}
