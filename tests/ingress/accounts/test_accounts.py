"""Accounts, logins, and forged tokens."""

import asyncio
import base64
import json
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import bcrypt
import jwt
import pytest

from ingress.accounts.passwords import _weakness
from ingress.application import LOGIN_DELAYS, PASSWORDS
from ingress.http.problems import Problem
from storage.settings import DatabaseSettings
from tests.ingress.clocks import Clock
from tests.ingress.conftest import AMPLE_SECONDS, JWT_KEY, broker_away, ingress_settings, run_ingress
from tests.ingress.house import House
from tests.ingress.people import ANNA, log_in, open_connection, sign_up, visit
from tests.support.client import Answer
from tests.support.waiting import wait_until

# Guesses of somebody who knows Anna, and the advice in the response.
GUESSABLE = [
    ("password1", "This is a very common password."),
    ("correctcorrect", "Avoid repeated words and characters."),
    ("qwertyuiop[]", "Straight rows of keys are easy to guess."),
    ("a" * 72, "Repeats like"),
    ("anna@example.com", "easy to guess"),
    ("example.Anna", "easy to guess"),
    ("Anna Bern 1990", "easy to guess"),
    ("abcdefghijklmnop", "Sequences like"),
    ("P@ssw0rd", "easy to guess"),
]
HARD_TO_GUESS = ["correct horse", "a" * 30 + "tvqxkzpm84", "ä" * 8 + "Straße im Grünen", "b7#kQ9!xW2pL", "7$+|!2%" * 10]
REFUSED_AT_SIGNUP: list[tuple[str, object]] = [
    ("password", "short"),
    ("password", None),
    ("password", 123456789),
    ("email", "nobody"),
    ("email", "a@b"),
    ("email", "a b@example.com"),
    ("email", "anna@example.com\r\nBcc: x@example.com"),
    ("email", "a" * 250 + "@example.com"),
    ("email", None),
    ("name", ""),
    ("name", "a\u0000b"),
    ("name", "x" * 201),
    ("id", 7),
    ("roles", ["HOTEL_MANAGER"]),
    ("role", "HOTEL_MANAGER"),
    ("version", 7),
    ("password_hash", "x"),
    ("created_at", "2020-01-01T00:00:00Z"),
    ("date_of_birth", "1990-01-01"),
]
HOME, ELSEWHERE = "192.0.2.7", "198.51.100.1"


@pytest.fixture
def house(house_without_broker: House) -> House:
    return house_without_broker


async def test_somebody_signs_up_and_logs_in(house: House) -> None:
    signed_up = await house.post("/v1/auth/signup", ANNA)
    assert (signed_up.status, signed_up.headers["Location"]) == (201, "/v1/users/profile")
    assert signed_up.body == {
        "id": signed_up.body["id"],
        "email": "Anna@example.com",
        "name": "Anna",
        "date_of_birth": None,
        "gender": None,
        "roles": ["GUEST"],
    }

    logged_in = await house.post("/v1/auth/login", {"email": "anna@EXAMPLE.com", "password": "correct horse"})
    assert (logged_in.status, logged_in.body["token_type"]) == (200, "bearer")
    claims = jwt.decode(logged_in.body["access_token"], JWT_KEY, algorithms=["HS256"], audience="innkeeper")
    assert claims["exp"] - claims["iat"] == 30 * 60
    assert (claims["sub"], claims["type"], claims["iss"], claims["roles"]) == (
        str(signed_up.body["id"]),
        "access",
        "innkeeper",
        ["GUEST"],
    )
    profile = await house.get(signed_up.headers["Location"], headers=visit(logged_in).bearer)
    assert profile.body == signed_up.body


async def test_an_address_has_one_account_in_upper_or_lower_case(house: House) -> None:
    await sign_up(house)
    again = await house.post("/v1/auth/signup", ANNA | {"email": "ANNA@example.com"})
    assert (again.status, again.body) == (400, {"detail": "already registered"})

    spellings = ["bo@example.com", "Bo@example.com", "BO@EXAMPLE.COM", "bO@example.com"]
    at_once = [house.post("/v1/auth/signup", ANNA | {"email": email}) for email in spellings * 2]
    assert sorted(answered.status for answered in await asyncio.gather(*at_once)) == [201] + [400] * 7


async def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(house: House) -> None:
    await sign_up(house)
    wrong = await house.post("/v1/auth/login", {"email": ANNA["email"], "password": "wrong horse"})
    unknown = await house.post("/v1/auth/login", {"email": "nobody@example.com", "password": "wrong horse"})
    assert (wrong.status, wrong.body) == (401, {"detail": "invalid e-mail or password"})
    assert (unknown.status, unknown.body) == (wrong.status, wrong.body)
    names = wrong.headers.keys() - {"Date", "X-Request-ID"}
    assert wrong.headers.keys() == unknown.headers.keys()
    assert [unknown.headers[name] for name in names] == [wrong.headers[name] for name in names]
    assert "Set-Cookie" not in wrong.headers


async def test_an_unknown_address_takes_as_long_as_a_wrong_password(database: DatabaseSettings) -> None:
    settings = ingress_settings(bcrypt_rounds=8, login_delays=False)
    async with run_ingress(settings, broker_away(), database, ready=False) as house:
        await sign_up(house)

        async def cpu_seconds(email: str) -> float:
            began = time.process_time()
            answered = await house.post("/v1/auth/login", {"email": email, "password": "wrong horse"})
            assert answered.status == 401
            return time.process_time() - began

        took = [(await cpu_seconds(ANNA["email"]), await cpu_seconds("nobody@example.com")) for _ in range(25)]
    known, unknown = (statistics.median(column) for column in zip(*took, strict=True))
    # Without a hash to compare with, an unknown one would take less than a quarter of a known one's time.
    assert 0.6 < unknown / known < 1.6, (known, unknown)


@pytest.mark.parametrize("path", ["/v1/auth/signup", "/v1/auth/login"])
async def test_a_password_beyond_what_is_hashed_is_refused_by_its_length(house: House, path: str) -> None:
    given = ANNA if path.endswith("signup") else {"email": ANNA["email"], "password": ""}
    for password in ("x7Q!" * 20, "ä" * 37, "b7#kQ9!x" * 9 + "!", "🏨" * 19, "b7#kQ9!x" * 8000):
        refused = await house.post(path, given | {"password": password})
        assert refused.status == 422
        assert refused.body["errors"] == [{"field": "password", "message": "it is at most 72 bytes long"}]
    refused = await house.post(path, given | {"password": "zero\0byte and more of it"})
    assert (refused.status, refused.body["errors"][0]["field"]) == (422, "password")


async def test_a_password_that_others_would_guess_is_refused_with_advice(house: House) -> None:
    for password, advice in GUESSABLE:
        refused = await house.post("/v1/auth/signup", ANNA | {"name": "Anna Bern", "password": password})
        assert (refused.status, refused.body["errors"][0]["field"]) == (422, "password"), password
        assert "it is easy to guess" in refused.body["detail"]
        assert advice in refused.body["detail"], password
        assert password not in refused.body["detail"]
    assert (await house.post("/v1/auth/login", {"email": ANNA["email"], "password": "password1"})).status == 401


async def test_a_password_that_is_hard_to_guess_is_taken_in_any_alphabet(house: House) -> None:
    for number, password in enumerate(HARD_TO_GUESS):
        email = f"anna{number}@example.com"
        await sign_up(house, email=email, password=password)
        await log_in(house, email=email, password=password)


def test_no_password_takes_much_longer_to_judge_than_to_hash() -> None:
    began = time.thread_time()
    assert _weakness(("4@8({[<369&#!1/|0$5+7%2" * 4)[:72], []) is None
    assert time.thread_time() - began < 2


async def test_a_password_of_older_rules_still_logs_in(house: House, database: DatabaseSettings) -> None:
    password_hash = bcrypt.hashpw(b"pony", bcrypt.gensalt(4)).decode()
    async with open_connection(database) as sql:
        await sql.execute(
            "insert into app_user (email, password_hash) values ('old@example.com', %s)", (password_hash,)
        )
    await log_in(house, email="old@example.com", password="pony")


async def test_an_account_that_makes_no_sense_or_wants_more_than_it_may_is_refused(house: House) -> None:
    for field, value in REFUSED_AT_SIGNUP:
        refused = await house.post("/v1/auth/signup", ANNA | {field: value})
        assert (refused.status, [error["field"] for error in refused.body["errors"]]) == (422, [field]), (field, value)
    for field, value in (("roles", ["HOTEL_MANAGER"]), ("user_id", 1), ("remember", True), ("email", 7)):
        refused = await house.post("/v1/auth/login", {"email": "a@b.example", "password": "x", field: value})
        assert (refused.status, [error["field"] for error in refused.body["errors"]]) == (422, [field]), field


async def test_a_guesser_has_to_pause_and_the_account_holder_elsewhere_never(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ingress_settings(trusted_proxies="127.0.0.0/8")
    async with run_ingress(settings, broker_away(), database, ready=False) as house:
        # No pause ends by itself while the test is slow.
        monkeypatch.setattr(house.app[LOGIN_DELAYS]._own, "_clock_us", Clock())
        await sign_up(house)

        async def try_password(password: str, address: str) -> Answer:
            given = {"email": ANNA["email"], "password": password}
            return await house.post("/v1/auth/login", given, headers={"X-Forwarded-For": address})

        guesses = [await try_password(f"wrong horse {number}", ELSEWHERE) for number in range(30)]
        assert [guess.status for guess in guesses] == [401] * 5 + [429] * 25
        assert guesses[5].headers["Retry-After"] == "1"
        # Even the right password has to wait there, or a guesser would learn that it is the right one.
        assert (await try_password(ANNA["password"], ELSEWHERE)).status == 429
        assert (await try_password(ANNA["password"], HOME)).status == 200


async def test_an_attempt_that_nobody_could_judge_counts_for_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sign_up(house)

    async def too_many(password: str, password_hash: str | None) -> bool:
        raise Problem(503, "too many logins at once, try again")

    given = {"email": ANNA["email"], "password": ANNA["password"]}
    with monkeypatch.context() as patch:
        patch.setattr(house.app[PASSWORDS], "matches", too_many)
        assert [(await house.post("/v1/auth/login", given)).status for _ in range(30)] == [503] * 30
    await log_in(house)


async def test_fifty_logins_at_once_keep_nobody_else_waiting(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_ingress(ingress_settings(login_delays=False), broker_away(), database, ready=False) as house:
        await sign_up(house)
        compare, may_resume, under_way = bcrypt.checkpw, threading.Semaphore(0), threading.Semaphore(0)

        def compare_slowly(password: bytes, hashed: bytes) -> bool:
            under_way.release()
            # Were passwords compared where requests are answered, it would be waited for in vain here.
            assert may_resume.acquire(timeout=AMPLE_SECONDS)
            return compare(password, hashed)

        monkeypatch.setattr(bcrypt, "checkpw", compare_slowly)
        logins = [asyncio.create_task(log_in(house)) for _ in range(50)]
        try:
            await wait_until(lambda: under_way.acquire(blocking=False), message="no password is compared")
            for _ in range(20):
                assert (await house.get("/health/live")).status == 200
            assert not any(login.done() for login in logins)
            may_resume.release(4)
            await wait_until(lambda: sum(login.done() for login in logins) == 4, message="four are not logged in")
            assert (await house.get("/health/live")).status == 200
        finally:
            may_resume.release(len(logins))
        assert all(await asyncio.gather(*logins))


def _claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {
        "sub": "1",
        "roles": ["GUEST"],
        "type": "access",
        "iss": "innkeeper",
        "aud": "innkeeper",
        "iat": now,
        "exp": now + 60,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def _token(**changes: Any) -> str:
    return jwt.encode(_claims(**changes), JWT_KEY, algorithm="HS256")


def _unsigned_token() -> str:
    parts = [{"alg": "none", "typ": "JWT"}, _claims()]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


FORGED: dict[str, Callable[[], str]] = {
    "none": _unsigned_token,
    "another key": lambda: jwt.encode(_claims(), "another key of thirty-two bytes and more", algorithm="HS256"),
    "another algorithm": lambda: jwt.encode(_claims(), JWT_KEY + "!" * 32, algorithm="HS512"),
    "a key of their own": lambda: jwt.encode(
        _claims(), "known to them and thirty-two bytes long", algorithm="HS256", headers={"kid": "../../dev/null"}
    ),
    "a critical extension": lambda: jwt.encode(
        _claims(), JWT_KEY, algorithm="HS256", headers={"crit": ["x"], "x": True}
    ),
    "expired": lambda: _token(exp=int(time.time()) - 1),
    "no end": lambda: _token(exp=None),
    "no issue time": lambda: _token(iat=None),
    "issued tomorrow": lambda: _token(iat=int(time.time()) + 86400),
    "a refresh token": lambda: _token(type="refresh"),
    "no type": lambda: _token(type=None),
    "another issuer": lambda: _token(iss="elsewhere"),
    "another audience": lambda: _token(aud="elsewhere"),
    "nobody": lambda: _token(sub=None),
    "no number": lambda: _token(sub="anna"),
    "not a token": lambda: "a.b.c",
}


async def test_a_forged_token_is_nobodys(house: House) -> None:
    for name, forge in FORGED.items():
        bearer = {"Authorization": f"Bearer {forge()}"}
        for _ in range(2):
            answered = await house.post("/v1/users/guests", {"name": "Bo"}, headers=bearer)
            assert (answered.status, answered.headers["WWW-Authenticate"]) == (401, "Bearer"), name


async def test_a_token_that_was_good_is_refused_once_it_has_expired(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    bearer = {"Authorization": f"Bearer {_token()}"}
    assert (await house.post("/v1/users/guests", {"name": "Bo"}, headers=bearer)).status == 201
    in_an_hour = time.time() + 3600
    monkeypatch.setattr("ingress.tokens.time.time", lambda: in_an_hour)
    assert (await house.post("/v1/users/guests", {"name": "Bo"}, headers=bearer)).status == 401


async def test_without_a_token_nobody_books(house: House) -> None:
    assert (await house.post("/v1/bookings/init", {})).status == 401
