"""The ingress below a path of a site: nginx takes the path away, and every address in a response begins with it."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from pydantic import ValidationError

from sandbox import nginx
from sandbox.nginx import Nginx
from storage.settings import DatabaseSettings
from tests.ingress.conftest import broker_away, ingress_settings, run_ingress
from tests.ingress.house import House, open_hotel
from tests.ingress.people import ANNA
from tests.support.client import Client

PREFIX = "/site/booking"


@pytest.fixture
async def house(database: DatabaseSettings) -> AsyncIterator[House]:
    """An ingress that is served below the path; accounts and hotels need no broker."""
    await open_hotel(database)
    async with run_ingress(ingress_settings(public_prefix=PREFIX), broker_away(), database, ready=False) as house:
        yield house


@pytest.fixture
async def browser(house: House, tmp_path: Path) -> AsyncIterator[Client]:
    """A client behind nginx, at the site's own address, that keeps cookies as a browser does."""
    if (reason := nginx.available()) is not None:
        pytest.skip(reason)
    async with (
        Nginx(tmp_path / "nginx", [house.address], PREFIX) as proxy,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=proxy.trust()), cookie_jar=aiohttp.CookieJar(unsafe=True)
        ) as session,
    ):
        assert proxy.url.endswith(PREFIX)
        yield Client(session, proxy.url.removesuffix(PREFIX))


@pytest.mark.parametrize("mount", ["/v1", "/v2", ""])
async def test_the_cookie_of_a_login_comes_back_to_the_refresh_and_nowhere_else(browser: Client, mount: str) -> None:
    await browser.post(f"{PREFIX}/v1/auth/signup", ANNA)
    login = {name: ANNA[name] for name in ("email", "password")}

    assert (await browser.post(f"{PREFIX}{mount}/auth/login", login)).status == 200

    (cookie,) = browser.session.cookie_jar
    assert cookie["path"] == f"{PREFIX}{mount}/auth"
    # The jar sends the cookie: the refresh gives the next one, and the logout clears it.
    assert (await browser.post(f"{PREFIX}{mount}/auth/refresh")).status == 200
    assert (await browser.post(f"{PREFIX}{mount}/auth/logout")).status == 204
    assert list(browser.session.cookie_jar) == []


async def test_locations_and_links_can_be_followed_as_they_are(browser: Client, house: House) -> None:
    signed_up = await browser.post(f"{PREFIX}/v1/auth/signup", ANNA)
    browser.token = house.user_header(signed_up.body["id"])["Authorization"].removeprefix("Bearer ")

    assert signed_up.headers["Location"] == f"{PREFIX}/v1/users/profile"
    assert (await browser.get(signed_up.headers["Location"])).body["id"] == signed_up.body["id"]
    saved = [await browser.post(f"{PREFIX}/users/guests", {"name": name}) for name in ("Ada", "Alan")]
    assert [(await browser.get(answer.headers["Location"])).body["name"] for answer in saved] == ["Ada", "Alan"]

    old = await browser.get(f"{PREFIX}/users/guests?limit=1")
    successor, next_page = (each.partition(">")[0].removeprefix("<") for each in _links(old.headers))
    assert successor == f"{PREFIX}/v1/users/guests"
    assert [guest["name"] for guest in (await browser.get(successor)).body] == ["Ada", "Alan"]
    assert [guest["name"] for guest in (await browser.get(next_page)).body] == ["Alan"]


async def test_every_link_and_asset_of_every_page_is_served_below_the_path(browser: Client) -> None:
    visited, open_addresses = set(), [f"{PREFIX}/"]
    while open_addresses:
        address = open_addresses.pop()
        if address in visited:
            continue
        visited.add(address)
        page = await browser.get(address)
        # Without a broker the system is not ready.
        assert page.status == (503 if address.endswith("/health/ready") else 200), address
        if page.headers["Content-Type"].startswith("text/html"):
            named = re.findall(r'(?:src|href)="([^"#:]+)[^":]*"', page.body)
            base = address.rpartition("/")[0]
            open_addresses += [each if each.startswith("/") else f"{base}/{each}" for each in named]

    pages = {urlsplit(address).path.removeprefix(PREFIX) for address in visited}
    assert {"/", "/docs", "/redoc", "/events", "/openapi.json", "/asyncapi.json", "/health/ready"} <= pages
    assert all(address.startswith(f"{PREFIX}/") for address in visited)


async def test_the_document_has_the_path_before_its_paths(browser: Client) -> None:
    document = (await browser.get(f"{PREFIX}/openapi.json")).body

    assert document["servers"] == [{"url": PREFIX}]


async def test_without_nginx_the_paths_have_no_prefix(house: House) -> None:
    assert (await house.get("/v1/hotels/1/info")).status == 200
    assert (await house.get(f"{PREFIX}/v1/hotels/1/info")).status == 404


@pytest.mark.parametrize(
    "prefix", ["/", "booking", "/booking/", "//booking", "/a;b", "/a b", "/<b>", "https://x.example"]
)
def test_a_prefix_that_is_no_plain_path_refuses_to_start(prefix: str) -> None:
    with pytest.raises(ValidationError, match="PUBLIC_PREFIX"):
        ingress_settings(public_prefix=prefix)


def _links(headers: object) -> list[str]:
    """Return the `Link` headers of a response: its successor's first."""
    values: list[str] = headers.getall("Link")  # type: ignore[attr-defined]
    return sorted(values, key=lambda value: "successor" not in value)
