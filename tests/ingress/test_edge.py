"""Properties of every response, whatever its operation: origins, versions of the interface, media, sizes."""

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
from aiohttp import ClientSession, web
from pydantic import ValidationError

from ingress.http.models import NoBody, NoQuery
from ingress.http.problems import answer_problems
from ingress.http.responses import Response, json_response
from ingress.operations import V1, Access, Example, Mount, RequestContext, operation, operations_of, routes_of
from ingress.tokens import Tokens
from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import STAY, House, StandInWorker
from topics.kafka.settings import KafkaSettings

PAGE = "https://app.example.com"


async def test_pages_of_named_origins_alone_are_let_in(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    settings = ingress_settings(cors_origins=f"{PAGE}, http://127.0.0.1:3000")
    async with run_ingress(settings, kafka_settings, database, ready=False) as house:
        let_in = await house.get("/health/live", headers={"Origin": PAGE})
        assert let_in.headers["Access-Control-Allow-Origin"] == PAGE
        assert let_in.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Location" in let_in.headers["Access-Control-Expose-Headers"]
        assert let_in.headers["Vary"] == "Origin"

        preflight_headers = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
        preflight = await house.ask("OPTIONS", "/v1/bookings/init", headers=preflight_headers)
        assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, PAGE)
        assert "Idempotency-Key" in preflight.headers["Access-Control-Allow-Headers"]

        refused = await house.post("/v1/bookings/init", STAY, headers={"Origin": PAGE})
        assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (401, PAGE)

        stranger = {"Origin": "https://evil.example.com", "Access-Control-Request-Method": "POST"}
        for method in ("GET", "OPTIONS"):
            response = await house.ask(method, "/v1/bookings/init", headers=stranger)
            assert not [name for name in response.headers if name.startswith("Access-Control")], method


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example.com", "https://app.example.com/", "https://*.example.com"]
)
def test_origins_that_are_not_explicit_refuse_to_start(origin: str) -> None:
    with pytest.raises(ValidationError, match="CORS_ORIGINS"):
        ingress_settings(cors_origins=origin)


async def test_paths_without_a_version_answer_the_same_and_name_their_successor(
    house: House, stand_in: StandInWorker
) -> None:
    old = await house.get("/hotels/1/info")
    new = await house.get("/v1/hotels/1/info")

    assert (old.status, old.body) == (new.status, new.body) == (200, new.body)
    assert old.headers["Link"] == '</v1/hotels/1/info>; rel="successor-version"'
    since = datetime.fromtimestamp(int(old.headers["Deprecation"].removeprefix("@")), UTC)
    sunset = parsedate_to_datetime(old.headers["Sunset"])
    assert 180 <= (sunset - since).days <= 184
    assert not {"Deprecation", "Sunset"} & set(new.headers)

    refused = await house.post("/bookings/init", STAY)
    assert (refused.status, refused.headers["Link"]) == (401, '</v1/bookings/init>; rel="successor-version"')


class _Greeter:
    """An area of its own, whose response differs between two versions of the interface."""

    @operation(
        "GET /greeting", access=Access.ANYBODY, summary="Greet", responses={200: dict[str, str]}, example=Example()
    )
    async def greet(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Greet."""
        return json_response(200, {"greeting": "good day", "more": context.link("/greeting")})

    @operation(
        "GET /greeting", access=Access.ANYBODY, summary="Greet", responses={200: dict[str, str]}, example=Example()
    )
    async def greet_as_of_v2(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Greet as the next version does."""
        return json_response(200, {"greeting": "hello", "more": context.link("/greeting")})


@pytest.mark.process
async def test_a_version_is_one_more_mount_with_its_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row.id: row for _, row in operations_of(_Greeter())}
    monkeypatch.delattr(_Greeter, "greet_as_of_v2")
    v3 = Mount(prefix="/v3", links="/v3", replaced={"greet": rows["greet_as_of_v2"]})
    monkeypatch.setattr("ingress.operations.MOUNTS", (V1, v3))
    app = web.Application(middlewares=[answer_problems])
    app.add_routes(routes_of([_Greeter()], Tokens(ingress_settings()), limits=None))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with ClientSession(f"http://{host}:{port}") as session:
            house = House(session, app)
            assert (await house.get("/v1/greeting")).body == {"greeting": "good day", "more": "/v1/greeting"}
            assert (await house.get("/v3/greeting")).body == {"greeting": "hello", "more": "/v3/greeting"}
    finally:
        await runner.cleanup()


async def test_a_body_that_is_of_another_content_type_than_json_is_refused(house: House) -> None:
    for content_type, status in (
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=UTF-8", 202),
        ("application/json", 202),
    ):
        response = await house.ask(
            "POST",
            "/v1/bookings/init",
            user=1,
            data=web.json_response(STAY).text or "",
            headers={"Content-Type": content_type},
        )
        assert response.status == status, content_type


async def test_a_body_that_is_nested_too_deep_is_refused(house: House) -> None:
    nested = "[" * 20_000 + "]" * 20_000
    for path, body in (
        ("/v1/bookings/init", json.dumps(STAY)[:-1] + f', "more": {nested}}}'),
        ("/bookings/init", nested),
        ("/v1/auth/login", f'{{"email": {nested}}}'),
    ):
        refused = await house.ask("POST", path, user=1, data=body, headers={"Content-Type": "application/json"})
        assert (refused.status, refused.body) == (400, {"detail": "the body is not JSON"}), path


async def test_a_wrong_method_is_answered_with_the_right_ones(house: House) -> None:
    refused = await house.ask("DELETE", "/v1/bookings/init", user=1)

    assert (refused.status, refused.body, refused.headers["Allow"]) == (405, {"detail": "method not allowed"}, "POST")


async def test_unknown_parameters_are_named(house: House) -> None:
    refused = await house.get("/v1/hotels/1/info?checkin=2026-12-24")

    assert refused.status == 422
    assert [error["field"] for error in refused.body["errors"]] == ["checkin"]


async def test_every_wrong_field_is_named(house: House) -> None:
    refused = await house.post("/v1/bookings/init", STAY | {"rooms_count": 0, "amount": 1, "room_id": "1"}, user=1)

    assert refused.status == 422
    assert {error["field"] for error in refused.body["errors"]} == {"rooms_count", "amount", "room_id"}
    assert all(name in refused.body["detail"] for name in ("rooms_count", "amount", "room_id"))


@pytest.mark.process
async def test_large_answers_are_compressed_for_clients_that_accept_it() -> None:
    app = web.Application()

    async def show(_: web.Request) -> web.StreamResponse:
        return Response(200, b'{"text": "' + b"long " * 1000 + b'"}', None)

    app.add_routes([web.get("/", show)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        url = f"http://{host}:{port}/"
        async with ClientSession(auto_decompress=False) as session:
            async with session.get(url, headers={"Accept-Encoding": "gzip, br"}) as packed:
                assert packed.headers["Content-Encoding"] == "gzip"
                assert packed.headers["Vary"] == "Accept-Encoding"
                assert int(packed.headers["Content-Length"]) < 200
            async with session.get(url, headers={"Accept-Encoding": "identity"}) as plain:
                assert "Content-Encoding" not in plain.headers
                assert len(await plain.read()) > 5000
        async with ClientSession() as session, session.get(url) as unpacked:
            assert (await unpacked.json())["text"].startswith("long long")
    finally:
        await runner.cleanup()


async def test_every_answer_has_its_cache_control(house: House) -> None:
    for path in ("/health/live", "/v1/hotels/1/info", "/v1/bookings/none", "/nowhere"):
        assert "Cache-Control" in (await house.get(path)).headers, path
