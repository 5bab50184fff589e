"""Profiles, saved guests, and becoming a host."""

import asyncio
import json
import os
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest
from typer.testing import CliRunner

from operators.cli.main import app
from storage.settings import DatabaseSettings
from tests.ingress.conftest import JWT_KEY, broker_away, ingress_settings, run_ingress
from tests.ingress.house import TODAY, House
from tests.ingress.people import log_in, open_connection, refresh, sign_up, visit

ADA = {"name": "Ada", "gender": "FEMALE", "age": 36}
# Strings that break code which does not treat them as text: statements, pages, headers, terminals, other alphabets.
UNHARMED = [
    "Robert'); drop table guest;--",
    "<script>alert(1)</script>",
    'a"b\\c',
    "%s %(name)s {0} ${jndi:x}",
    "Þórður Ångström 你好 🏨",
    "e\u0301 \u202e abc",
]

PROTECTED_OR_SENSELESS: list[tuple[str, object]] = [
    ("id", 7),
    ("email", "other@example.com"),
    ("roles", ["HOTEL_MANAGER"]),
    ("password", "correct horse"),
    ("password_hash", "x"),
    ("version", 7),
    ("created_at", "2020-01-01T00:00:00Z"),
    ("user_id", 2),
    ("unknown", None),
    ("date_of_birth", "1899-12-31"),
    ("date_of_birth", str(datetime.now(UTC).date() + timedelta(days=2))),
    ("date_of_birth", "1990-02-29"),
    ("date_of_birth", 19900101),
    ("gender", "female"),
    ("gender", ""),
    ("name", ""),
    ("name", " \t"),
    ("name", "a\u0000b"),
    ("name", "a\r\nSet-Cookie: x=y"),
    ("name", "x" * 201),
    ("name", 7),
    ("name", ["Anna"]),
]
NO_GUEST: list[tuple[str, object]] = [
    ("id", 7),
    ("user_id", 2),
    ("created_at", "2020-01-01T00:00:00Z"),
    ("unknown", 1),
    ("name", None),
    ("name", ""),
    ("name", "a\u0085b"),
    ("age", -1),
    ("age", 151),
    ("age", "36"),
    ("age", 36.5),
    ("age", True),
    ("gender", "OTHER"),
]
# A booking's status, in how many days its guests leave, how long ago it was decided; may its guest be deleted?
STAYS = [
    ("GUESTS_ADDED", 12, "1 minute", 409),
    ("PAYMENTS_PENDING", 12, "1 minute", 409),
    ("CONFIRMED", 12, "100 days", 409),
    ("CONFIRMED", 1, "100 days", 409),
    ("CONFIRMED", 0, "100 days", 409),
    ("CONFIRMED", -2, "100 days", 204),
    ("CHECKED_IN", 1, "1 hour", 409),
    ("CHECKED_OUT", 1, "1 hour", 204),
    ("NO_SHOW", 1, "1 hour", 204),
    ("CANCELLED", 12, "1 minute", 204),
    ("EXPIRED", 12, "1 minute", 409),
    ("EXPIRED", 12, "25 hours", 204),
]


@pytest.fixture
def house(house_without_broker: House) -> House:
    return house_without_broker


async def test_a_profile_is_filled_in_and_cleared(house: House) -> None:
    await sign_up(house)
    headers = (await log_in(house)).bearer
    shown = await house.get("/v1/users/profile", headers=headers)
    assert (shown.status, shown.headers["ETag"], shown.headers["Cache-Control"]) == (200, '"v1"', "no-store")
    assert shown.body == {
        "id": shown.body["id"],
        "email": "Anna@example.com",
        "name": "Anna",
        "date_of_birth": None,
        "gender": None,
        "roles": ["GUEST"],
    }

    changes: dict[str, Any] = {"name": "Anna B.", "date_of_birth": "1990-02-28", "gender": "FEMALE"}
    changed = await house.ask("PATCH", "/v1/users/profile", json=changes, headers=headers)
    assert (changed.status, changed.body, changed.headers["ETag"]) == (200, shown.body | changes, '"v2"')

    back = await house.ask("PATCH", "/v1/users/profile", json={"name": None, "gender": None}, headers=headers)
    assert back.body == changed.body | {"name": None, "gender": None}
    again = await house.get("/v1/users/profile", headers=headers)
    assert (again.body, again.headers["ETag"]) == (back.body, back.headers["ETag"])


async def test_of_two_who_change_the_profile_that_both_read_one_is_refused(house: House) -> None:
    read = await house.get("/v1/users/profile", user=1)
    if_match = {"If-Match": read.headers["ETag"]}

    async def change(name: str) -> int:
        return (await house.ask("PATCH", "/v1/users/profile", json={"name": name}, user=1, headers=if_match)).status

    assert sorted(await asyncio.gather(*(change(f"Anna {number}") for number in range(10)))) == [200] + [412] * 9
    assert (await house.get("/v1/users/profile", user=1)).headers["ETag"] == '"v2"'
    late = await house.ask("PATCH", "/v1/users/profile", json={}, user=1, headers=if_match)
    assert (late.status, late.body["reason"]) == (412, "changed_meanwhile")
    any_version = await house.ask("PATCH", "/v1/users/profile", json={"name": "A"}, user=1, headers={"If-Match": "*"})
    assert any_version.status == 200
    shown = any_version.headers["ETag"]
    either = {"If-Match": f'"v99", {shown}'}
    assert (await house.ask("PATCH", "/v1/users/profile", json={"name": "B"}, user=1, headers=either)).status == 200
    assert (await house.ask("PATCH", "/v1/users/profile", json={"name": "C"}, user=1, headers=either)).status == 412


async def test_a_profile_takes_only_changeable_fields_that_make_sense(house: House) -> None:
    before = await house.get("/v1/users/profile", user=1)
    for field, value in PROTECTED_OR_SENSELESS:
        refused = await house.ask("PATCH", "/v1/users/profile", json={"name": "Fine", field: value}, user=1)
        assert (refused.status, [error["field"] for error in refused.body["errors"]]) == (422, [field]), (field, value)
    after = await house.get("/v1/users/profile", user=1)
    assert (after.body, after.headers["ETag"]) == (before.body, before.headers["ETag"])


async def test_somebody_is_born_on_any_day_since_1900(house: House) -> None:
    for day in (date(1900, 1, 1), date(2000, 2, 29), TODAY):
        changed = await house.ask("PATCH", "/v1/users/profile", json={"date_of_birth": str(day)}, user=1)
        assert (changed.status, changed.body["date_of_birth"]) == (200, str(day))


async def test_any_text_is_stored_and_shown_unharmed(house: House) -> None:
    for text in UNHARMED:
        changed = await house.ask("PATCH", "/v1/users/profile", json={"name": text}, user=1)
        saved = await house.post("/v1/users/guests", {"name": text}, user=1)
        assert (changed.body["name"], saved.body["name"]) == (text, text)
        assert (await house.get(saved.headers["Location"], user=1)).body["name"] == text
        assert (await house.get("/v1/users/profile", user=1)).body["name"] == text
    assert len((await house.get("/v1/users/guests", user=1)).body) == len(UNHARMED)


async def test_a_guest_is_saved_shown_replaced_changed_and_deleted(house: House) -> None:
    saved = await house.post("/v1/users/guests", ADA, user=1)
    assert (saved.status, saved.body) == (201, {"id": saved.body["id"], "user_id": 1, **ADA})
    location = saved.headers["Location"]
    assert location == f"/v1/users/guests/{saved.body['id']}"
    assert (await house.get(location, user=1)).body == saved.body

    patched = await house.ask("PATCH", location, json={"age": 37}, user=1)
    assert (patched.status, patched.body) == (200, saved.body | {"age": 37})
    assert (await house.ask("PATCH", location, json={}, user=1)).body == patched.body
    assert (await house.ask("PATCH", location, json={"gender": None}, user=1)).body == patched.body | {"gender": None}
    replaced = await house.ask("PUT", location, json={"name": "Ada L."}, user=1)
    assert (replaced.status, replaced.body) == (200, saved.body | {"name": "Ada L.", "gender": None, "age": None})
    assert (await house.get(location, user=1)).body == replaced.body

    deleted = await house.ask("DELETE", location, user=1)
    assert (deleted.status, deleted.body) == (204, None)
    assert (await house.get(location, user=1)).status == 404
    assert (await house.ask("DELETE", location, user=1)).status == 404


async def test_a_guest_takes_only_known_fields_that_make_sense(house: House) -> None:
    saved = await house.post("/v1/users/guests", ADA, user=1)
    for method, path in (
        ("POST", "/v1/users/guests"),
        ("PUT", saved.headers["Location"]),
        ("PATCH", saved.headers["Location"]),
    ):
        for field, value in NO_GUEST:
            refused = await house.ask(method, path, json=ADA | {field: value}, user=1)
            assert refused.status == 422, (method, field, value)
            assert [error["field"] for error in refused.body["errors"]] == [field]
    assert (await house.get("/v1/users/guests", user=1)).body == [saved.body]


async def test_a_guest_of_somebody_else_does_not_exist(house: House) -> None:
    location = (await house.post("/v1/users/guests", ADA, user=1)).headers["Location"]
    for method, body in (("GET", None), ("PUT", ADA), ("PATCH", {"age": 1}), ("DELETE", None)):
        other = await house.ask(method, location, json=body, user=2)
        unknown = await house.ask(method, "/v1/users/guests/999", json=body, user=2)
        assert (other.status, other.body) == (unknown.status, unknown.body) == (404, {"detail": "no such guest"})
        assert (await house.ask(method, location, json=body)).status == 401
    assert (await house.get("/v1/users/guests", user=2)).body == []
    assert {name: (await house.get(location, user=1)).body[name] for name in ADA} == ADA


async def test_many_guests_come_page_by_page_while_new_ones_are_saved(house: House) -> None:
    saved = [(await house.post("/v1/users/guests", {"name": f"Guest {number}"}, user=1)).body for number in range(5)]
    await house.post("/v1/users/guests", {"name": "Somebody else's"}, user=2)

    first = await house.get("/v1/users/guests?limit=2", user=1)
    assert (first.status, first.body) == (200, saved[:2])
    await house.ask("DELETE", f"/v1/users/guests/{saved[0]['id']}", user=1)
    found, page = [], first
    while "Link" in page.headers:
        page = await house.get(page.headers["Link"].split(">")[0].lstrip("<"), user=1)
        found += page.body
    assert found == saved[2:]

    for query in ("limit=0", "limit=101", "cursor=x", "cursor=LTE", "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OQ", "page=2"):
        assert (await house.get(f"/v1/users/guests?{query}", user=1)).status == 422, query


async def stays(sql: psycopg.AsyncConnection, guest_id: int, status: str, leaves: int, decided_ago: str) -> UUID:
    """Write a booking of user 1 that names a guest, who leaves this many days from today."""
    booking_id = uuid4()
    await sql.execute(
        """insert into booking (id, user_id, hotel_id, room_id, check_in, check_out, rooms_count, status, terms,
                                amount_minor, currency, version, created_at, updated_at)
           values (%s, 1, 1, 1, %s, %s, 1, %s, 'prepaid', 100, 'EUR', 1, now() - %s::interval, now() - %s::interval)""",
        (
            booking_id,
            TODAY + timedelta(days=leaves - 2),
            TODAY + timedelta(days=leaves),
            status,
            decided_ago,
            decided_ago,
        ),
    )
    await sql.execute("insert into booking_guest values (%s, %s)", (booking_id, guest_id))
    return booking_id


async def test_an_account_with_a_current_stay_is_not_forgotten(house: House, database: DatabaseSettings) -> None:
    for status, leaves, decided_ago, answered in STAYS:
        guest = await house.post("/v1/users/guests", ADA, user=1)
        location = guest.headers["Location"]
        async with open_connection(database) as sql:
            await stays(sql, guest.body["id"], status, leaves, decided_ago)
        deleted = await house.ask("DELETE", location, user=1)
        assert deleted.status == answered, (status, leaves, decided_ago)
        if answered == 409:
            assert deleted.body["reason"] == "guest_stays"
            assert (await house.get(location, user=1)).body == guest.body


async def test_anybody_becomes_a_host_once_with_a_token_that_has_the_role(house: House) -> None:
    await sign_up(house)
    anna = await log_in(house)
    before = await house.get("/v1/users/profile", headers=anna.bearer)

    host = await house.post("/v1/users/host", headers=anna.bearer)
    roles = ["GUEST", "HOTEL_MANAGER"]
    assert host.status == 200
    assert {name: host.body[name] for name in before.body} == before.body | {"roles": roles}
    assert host.body["token_type"] == "bearer"
    claims = jwt.decode(host.body["access_token"], JWT_KEY, algorithms=["HS256"], audience="innkeeper")
    assert (claims["sub"], claims["roles"]) == (str(before.body["id"]), roles)

    again = await house.post("/v1/users/host", {}, headers=anna.bearer)
    assert (again.status, again.body["roles"]) == (200, roles)
    after = await house.get("/v1/users/profile", headers=anna.bearer)
    assert (after.body["roles"], after.headers["ETag"]) == (roles, '"v2"')
    now = visit(await refresh(house, anna.refresh_token))
    claims = jwt.decode(now.access_token, JWT_KEY, algorithms=["HS256"], audience="innkeeper")
    assert claims["roles"] == roles


async def test_nobody_becomes_a_host_where_operators_make_them(house: House, database: DatabaseSettings) -> None:
    async with run_ingress(ingress_settings(host_signup=False), broker_away(), database, ready=False) as strict:
        refused = await strict.post("/v1/users/host", user=1)
        assert (refused.status, refused.body) == (403, {"detail": "hosts are made by the operators here"})
        assert (await strict.get("/v1/users/profile", user=1)).body["roles"] == ["GUEST"]


async def test_a_token_whose_account_is_gone_counts_as_none(house: House) -> None:
    for method, path, body in (
        ("GET", "/v1/users/profile", None),
        ("PATCH", "/v1/users/profile", {"name": "Ghost"}),
        ("POST", "/v1/users/host", None),
        ("POST", "/v1/users/guests", ADA),
    ):
        answered = await house.ask(method, path, json=body, user=999)
        assert (answered.status, answered.headers["WWW-Authenticate"]) == (401, "Bearer"), path


async def test_an_operator_makes_a_host_who_is_one_from_the_next_refresh_on(
    house: House, environment: dict[str, str]
) -> None:
    await sign_up(house)
    anna = await log_in(house)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operators", "accounts", "grant", "anna@EXAMPLE.com", "HOTEL_MANAGER"),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert output.decode() == "anna@EXAMPLE.com is HOTEL_MANAGER from the next login or refresh on.\n"
    assert process.returncode == 0

    now = visit(await refresh(house, anna.refresh_token))
    profile = await house.get("/v1/users/profile", headers=now.bearer)
    assert profile.body["roles"] == ["GUEST", "HOTEL_MANAGER"]
    claims = jwt.decode(now.access_token, JWT_KEY, algorithms=["HS256"], audience="innkeeper")
    assert claims["roles"] == ["GUEST", "HOTEL_MANAGER"]


def test_a_grant_prints_its_result(environment: dict[str, str], database: DatabaseSettings) -> None:
    def grant(email: str, role: str = "HOTEL_MANAGER", **changes: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["accounts", "grant", email, role], env=environment | changes)
        return done.exit_code, done.output

    with psycopg.connect(database.conninfo(), autocommit=True) as sql:
        sql.execute("insert into app_user (email, password_hash) values ('Anna@example.com', 'x')")
    now, already = "is HOTEL_MANAGER from the next login or refresh on.", "is HOTEL_MANAGER already."
    assert grant("anna@example.com") == (0, f"anna@example.com {now}\n")
    assert grant("ANNA@example.com") == (0, f"ANNA@example.com {already}\n")
    done = CliRunner().invoke(app, ["accounts", "grant", "anna@example.com", "OPERATOR", "--json"], env=environment)
    assert json.loads(done.stdout) == {"email": "anna@example.com", "role": "OPERATOR", "changed": True}
    assert grant("nobody@example.com") == (os.EX_NOUSER, "Nobody has signed up as nobody@example.com.\n")
    status, output = grant("anna@example.com", DATABASE_URL="postgresql://a:secret@127.0.0.1:1/x")
    assert (status, output.startswith("The database is away: "), "secret" in output) == (os.EX_UNAVAILABLE, True, False)
    status, output = grant("anna@example.com", "ADMIN")
    assert (status, "HOTEL_MANAGER" in output) == (2, True)
