"""Staying logged in: a cookie is good for one use, a copied one ends the login, a lost answer does not."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from datetime import timedelta

import jwt
import psycopg
import pytest
from pydantic import SecretStr

from ingress.accounts.refresh import RefreshTokens
from ingress.database import Database
from storage import accounts, refresh_tokens
from storage.settings import DatabaseSettings
from tests.ingress.conftest import GRACE_SECONDS, JWT_KEY, broker_away, ingress_settings, run_ingress
from tests.ingress.house import House
from tests.ingress.people import Visit, cookie, log_in, open_connection, refresh, sign_up, visit
from tests.support.client import Answer
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until

WEEK_SECONDS = 7 * 24 * 3600


@pytest.fixture
def house(house_without_broker: House) -> House:
    return house_without_broker


@pytest.fixture
async def sql(database: DatabaseSettings) -> AsyncIterator[psycopg.AsyncConnection]:
    """The database."""
    async with open_connection(database) as connection:
        yield connection


@pytest.fixture
async def anna(house: House) -> Visit:
    """Anna, who has just logged in."""
    await sign_up(house)
    return await log_in(house)


async def pass_time(sql: psycopg.AsyncConnection, seconds: int) -> None:
    """Move all times of the table back by this much."""
    await sql.execute(
        """update refresh_token
           set used_at = used_at - %(by)s, expires_at = expires_at - %(by)s, created_at = created_at - %(by)s""",
        {"by": timedelta(seconds=seconds)},
    )


async def count_tokens(sql: psycopg.AsyncConnection) -> tuple[int, int, int]:
    """Return how many families there are, how many tokens, and how many of these were not used yet."""
    rows = await sql.execute(
        "select count(distinct family), count(*), count(*) filter (where used_at is null) from refresh_token"
    )
    counts: tuple[int, int, int] | None = await rows.fetchone()
    assert counts is not None
    return counts


def set_cookies(answered: Answer) -> list[str]:
    """Return all cookies that an answer sets, as they are written."""
    return [value for name, value in answered.headers.items() if name == "Set-Cookie"]


@pytest.mark.parametrize("mount", ["/v1", "/v2", ""])
async def test_the_cookie_goes_to_our_own_pages_browsers_and_nowhere_else(house: House, mount: str) -> None:
    await sign_up(house)
    given = {"email": "anna@example.com", "password": "correct horse"}
    logged_in = await house.post(f"{mount}/auth/login", given)
    token = cookie(logged_in).value
    flags = "HttpOnly; Secure; SameSite=Strict"
    expected = f"refreshToken={token}; Path={mount}/auth; {flags}; Max-Age={WEEK_SECONDS}"
    assert set_cookies(logged_in) == [expected]
    assert (len(token), logged_in.headers["Cache-Control"]) == (43, "no-store")

    refreshed = await refresh(house, token, f"{mount}/auth/refresh")
    expected = f"refreshToken={visit(refreshed).refresh_token}; Path={mount}/auth; {flags}; Max-Age={WEEK_SECONDS}"
    assert set_cookies(refreshed) == [expected]
    assert refreshed.headers["Cache-Control"] == "no-store"

    refused = await refresh(house, "A" * 43, f"{mount}/auth/refresh")
    assert (refused.status, refused.body) == (401, {"detail": "log in again"})
    assert set_cookies(refused) == [f"refreshToken=; Path={mount}/auth; {flags}; Max-Age=0"]


async def test_each_refresh_gives_a_new_cookie_and_an_access_token_that_works(house: House, anna: Visit) -> None:
    tokens = {anna.refresh_token}
    now = anna
    for number in range(1, 4):
        now = visit(await refresh(house, now.refresh_token))
        tokens.add(now.refresh_token)
        assert len(tokens) == number + 1
        assert (await house.get("/v1/users/profile", headers=now.bearer)).body["name"] == "Anna"


async def test_a_refresh_gives_the_present_roles(house: House, anna: Visit, sql: psycopg.AsyncConnection) -> None:
    await sql.execute("update app_user set roles = '{GUEST,HOTEL_MANAGER}' where name = 'Anna'")
    now = visit(await refresh(house, anna.refresh_token))
    claims = jwt.decode(now.access_token, JWT_KEY, algorithms=["HS256"], audience="innkeeper")
    assert claims["roles"] == ["GUEST", "HOTEL_MANAGER"]


async def test_a_refresh_token_opens_no_door_by_itself(house: House, anna: Visit) -> None:
    for path in ("/v1/users/profile", "/v1/users/guests"):
        headers = {"Authorization": f"Bearer {anna.refresh_token}", "Cookie": f"refreshToken={anna.refresh_token}"}
        assert (await house.get(path, headers=headers)).status == 401
    assert (await house.post("/v1/auth/refresh", headers=anna.bearer)).status == 401
    assert (await refresh(house, anna.access_token)).status == 401


async def test_only_hashes_of_tokens_are_kept(house: House, anna: Visit, sql: psycopg.AsyncConnection) -> None:
    now = visit(await refresh(house, anna.refresh_token))
    rows = await (await sql.execute("select token_hash, refresh_token::text from refresh_token")).fetchall()
    tokens = [anna.refresh_token, now.refresh_token]
    assert {bytes(row[0]) for row in rows} == {hashlib.sha256(token.encode()).digest() for token in tokens}
    assert not any(token in row[1] or token.encode().hex() in row[1] for token in tokens for row in rows)


async def test_a_client_that_lost_the_answer_can_repeat(
    house: House, anna: Visit, sql: psycopg.AsyncConnection
) -> None:
    first = visit(await refresh(house, anna.refresh_token))
    await pass_time(sql, GRACE_SECONDS // 2)
    again = visit(await refresh(house, anna.refresh_token))
    assert again.refresh_token == first.refresh_token
    assert (await house.get("/v1/users/profile", headers=again.bearer)).status == 200
    visit(await refresh(house, again.refresh_token))


async def test_fifty_windows_that_refresh_at_once_stay_one_line(
    house: House, anna: Visit, sql: psycopg.AsyncConnection
) -> None:
    answers = await asyncio.gather(*(refresh(house, anna.refresh_token) for _ in range(50)))
    assert len({visit(answered).refresh_token for answered in answers}) == 1
    assert await count_tokens(sql) == (1, 2, 1)
    visit(await refresh(house, visit(answers[0]).refresh_token))


async def test_a_window_that_was_slow_gets_the_cookie_that_the_others_have(
    house: House, anna: Visit, sql: psycopg.AsyncConnection
) -> None:
    now = anna
    for _ in range(4):
        now = visit(await refresh(house, now.refresh_token))
    slow = visit(await refresh(house, anna.refresh_token))
    assert slow.refresh_token == now.refresh_token
    assert await count_tokens(sql) == (1, 5, 1)


async def test_a_token_that_was_copied_ends_the_login_for_all_who_have_it(
    house: House, anna: Visit, sql: psycopg.AsyncConnection, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = await log_in(house)
    now = visit(await refresh(house, anna.refresh_token))
    await pass_time(sql, GRACE_SECONDS + 1)

    with caplog.at_level(logging.WARNING, "ingress.accounts.refresh"):
        copied = await refresh(house, anna.refresh_token)
    assert (copied.status, cookie(copied)["max-age"]) == (401, "0")
    assert (await refresh(house, now.refresh_token)).status == 401

    (warning,) = (record.getMessage() for record in caplog.records if record.name == "ingress.accounts.refresh")
    assert "used twice" in warning
    assert not any(secret in warning for secret in (anna.refresh_token, now.refresh_token, "nna@example"))
    visit(await refresh(house, elsewhere.refresh_token))


async def test_a_thief_who_hurries_on_within_the_grace_is_found_out_all_the_same(
    house: House, anna: Visit, sql: psycopg.AsyncConnection
) -> None:
    thief = anna
    for _ in range(6):
        thief = visit(await refresh(house, thief.refresh_token))
    assert (await refresh(house, anna.refresh_token)).status == 401
    assert (await refresh(house, thief.refresh_token)).status == 401
    assert await count_tokens(sql) == (0, 0, 0)


async def test_a_thief_within_the_grace_shares_the_line_and_is_found_out_at_the_next_use(
    house: House, anna: Visit, sql: psycopg.AsyncConnection
) -> None:
    owner = visit(await refresh(house, anna.refresh_token))
    thief = visit(await refresh(house, anna.refresh_token))
    await pass_time(sql, 1800)
    thief = visit(await refresh(house, thief.refresh_token))
    await pass_time(sql, GRACE_SECONDS + 1)
    assert (await refresh(house, owner.refresh_token)).status == 401
    assert (await refresh(house, thief.refresh_token)).status == 401


async def test_a_login_that_nobody_used_for_a_week_is_over(
    house: House, anna: Visit, sql: psycopg.AsyncConnection
) -> None:
    await pass_time(sql, WEEK_SECONDS - 60)
    now = visit(await refresh(house, anna.refresh_token))
    await pass_time(sql, WEEK_SECONDS - 60)
    now = visit(await refresh(house, now.refresh_token))
    await pass_time(sql, WEEK_SECONDS + 1)
    assert (await refresh(house, now.refresh_token)).status == 401


async def test_tokens_that_are_too_old_are_not_kept(house: House, anna: Visit, sql: psycopg.AsyncConnection) -> None:
    await refresh(house, anna.refresh_token)
    await pass_time(sql, WEEK_SECONDS + 1)
    assert await count_tokens(sql) == (1, 2, 1)
    now = await log_in(house)
    assert await count_tokens(sql) == (1, 1, 1)

    now = visit(await refresh(house, now.refresh_token))
    await sql.execute("update refresh_token set expires_at = now() where used_at is not null")
    visit(await refresh(house, now.refresh_token))
    assert await count_tokens(sql) == (1, 2, 1)


async def test_old_tokens_of_people_who_never_come_back_are_deleted_at_logins_of_others(
    house: House, anna: Visit, sql: psycopg.AsyncConnection
) -> None:
    await sql.execute(
        "insert into app_user (email, password_hash)"
        " select 'gone' || number || '@example.org', '' from generate_series(1, 50) as number"
    )
    await sql.execute(
        """
        insert into refresh_token (token_hash, family, user_id, expires_at)
        select sha256(convert_to(id || ' ' || days, 'UTF8')), gen_random_uuid(), id, now() + days * interval '1 day'
        from app_user cross join (values (-1), (1)) as stays (days) where email like 'gone%'
        """
    )
    for _ in range(2):
        await refresh(house, (await log_in(house)).refresh_token)

    # Those that are valid stay, and so do Anna's own.
    assert await count_tokens(sql) == (50 + 3, 50 + 5, 50 + 3)


async def test_a_row_that_another_login_locks_holds_no_login_up(
    house: House, anna: Visit, sql: psycopg.AsyncConnection, database: DatabaseSettings
) -> None:
    await sql.execute("insert into app_user (email, password_hash) values ('gone@example.org', '')")
    await sql.execute(
        "insert into refresh_token (token_hash, family, user_id, expires_at)"
        " select 'old', gen_random_uuid(), id, now() from app_user where email = 'gone@example.org'"
    )
    async with sql.transaction():
        await sql.execute("select from refresh_token where token_hash = 'old' for update")
        await log_in(house)
    assert (await count_tokens(sql))[1] == 3

    await log_in(house)
    assert (await count_tokens(sql))[1] == 3


async def test_no_login_fails_because_old_tokens_of_others_cannot_be_deleted(
    house: House, anna: Visit, sql: psycopg.AsyncConnection, caplog: pytest.LogCaptureFixture
) -> None:
    await sql.execute("insert into app_user (email, password_hash) values ('gone@example.org', '')")
    await sql.execute(
        "insert into refresh_token (token_hash, family, user_id, expires_at)"
        " select 'old', gen_random_uuid(), id, now() from app_user where email = 'gone@example.org'"
    )
    await sql.execute(
        "create function no_delete() returns trigger language plpgsql as"
        " $$ begin raise exception 'tokens are kept'; end $$"
    )
    await sql.execute(
        "create trigger no_delete before delete on refresh_token for each row execute function no_delete()"
    )

    now = await log_in(house)
    await refresh(house, visit(await refresh(house, now.refresh_token)).refresh_token)

    assert "tokens are kept" in caplog.text
    # Anna's three logins and refreshes are all there, and so is the old token.
    assert (await count_tokens(sql))[1] == 1 + 1 + 3


async def test_a_new_signing_key_ends_no_login_that_is_not_about_to_be_refreshed(
    house: House, anna: Visit, database: DatabaseSettings
) -> None:
    elsewhere = await log_in(house)
    await refresh(house, elsewhere.refresh_token)
    settings = ingress_settings(jwt_secret_key=SecretStr("tomorrow's key that only tests know, as long"))
    async with run_ingress(settings, broker_away(), database, ready=False) as tomorrow:
        visit(await refresh(tomorrow, anna.refresh_token))
        # The successor of this token cannot be computed again, so its use counts as a theft.
        assert (await refresh(tomorrow, elsewhere.refresh_token)).status == 401


@pytest.mark.parametrize("token", ["", "A" * 43, "A" * 42, "A" * 4000, "ä" * 43, '"', "a.b.c", "%00", "A" * 42 + "="])
async def test_a_cookie_that_was_never_given_is_refused_and_logs_nobody_out(house: House, token: str) -> None:
    refused = await refresh(house, token)
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    logged_out = await house.post("/v1/auth/logout", headers={"Cookie": f"refreshToken={token}"})
    assert logged_out.status == 204


async def test_without_a_cookie_nobody_is_logged_in(house: House) -> None:
    assert (await house.post("/v1/auth/refresh")).status == 401
    logged_out = await house.post("/v1/auth/logout")
    assert (logged_out.status, logged_out.body, cookie(logged_out)["max-age"]) == (204, None, "0")


@pytest.mark.parametrize("uses", [0, 1])
async def test_logging_out_ends_this_login_by_either_of_its_cookies(
    house: House, anna: Visit, sql: psycopg.AsyncConnection, uses: int
) -> None:
    elsewhere = await log_in(house)
    now = anna
    for _ in range(uses):
        now = visit(await refresh(house, now.refresh_token))
    logged_out = await house.post("/v1/auth/logout", headers={"Cookie": f"refreshToken={anna.refresh_token}"})
    assert (logged_out.status, logged_out.body) == (204, None)
    flags = "HttpOnly; Secure; SameSite=Strict; Max-Age=0"
    assert logged_out.headers["Set-Cookie"] == f"refreshToken=; Path=/v1/auth; {flags}"
    assert (await refresh(house, now.refresh_token)).status == 401
    assert await count_tokens(sql) == (1, 1, 1)
    visit(await refresh(house, elsewhere.refresh_token))


async def test_logging_out_everywhere_ends_all_logins_of_ones_own(house: House, anna: Visit) -> None:
    elsewhere = await log_in(house)
    await sign_up(house, email="bo@example.com", name="Bo")
    bo = await log_in(house, email="bo@example.com")
    logged_out = await house.post("/v1/auth/logout-all", headers=anna.bearer)
    assert (logged_out.status, cookie(logged_out)["max-age"]) == (204, "0")
    for login in (anna, elsewhere):
        assert (await refresh(house, login.refresh_token)).status == 401
    visit(await refresh(house, bo.refresh_token))
    assert (await house.post("/v1/auth/logout-all")).status == 401


async def test_a_page_of_another_site_neither_refreshes_nor_logs_out(house: House, anna: Visit) -> None:
    foreign = {"Cookie": f"refreshToken={anna.refresh_token}", "Sec-Fetch-Site": "cross-site"}
    for path in ("/v1/auth/refresh", "/v1/auth/logout"):
        refused = await house.post(path, headers=foreign)
        assert (refused.status, refused.body) == (403, {"detail": "not from another site"})
        assert "Set-Cookie" not in refused.headers
    visit(await refresh(house, anna.refresh_token, **{"Sec-Fetch-Site": "same-origin"}))


@pytest.mark.parametrize("scope", ["here", "everywhere"])
async def test_a_login_that_ends_keeps_nothing_of_what_was_just_being_added(
    database: DatabaseSettings, sql: psycopg.AsyncConnection, scope: str
) -> None:
    # Given Anna, whose token is being taken for the next one, which is not committed yet,
    await sql.execute("insert into app_user (email, password_hash) values ('anna@example.com', 'x')")
    pool = Database(database, pool_size=2)
    logins = RefreshTokens(pool, ingress_settings())
    session = await logins.begin(1)
    assert session is not None
    old = hashlib.sha256(session.refresh_token.encode()).digest()
    async with pool.writing() as connection:
        await accounts.lock(connection, 1)
        family = await refresh_tokens.family_of(connection, old)
        assert family is not None
        await refresh_tokens.mark_used(connection, old, b"salt")
        await refresh_tokens.add(connection, b"new", family, logins.lifetime)
        # when she logs out,
        leaving = asyncio.create_task(logins.end(session.refresh_token) if scope == "here" else logins.end_all(1))
        await wait_until(lambda: somebody_waits(database), message="nobody waited for the account")

    # then that waits, and nothing is left.
    await leaving
    assert await count_tokens(sql) == (0, 0, 0)
    await pool.close()
