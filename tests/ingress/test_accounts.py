"""Who somebody is: accounts, logins, saved guests, and tokens that others made."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from tests.ingress.conftest import JWT_KEY
from tests.ingress.house import House

ANNA: dict[str, Any] = {"email": "Anna@example.com", "password": "correct horse", "name": "Anna"}


async def test_somebody_signs_up_logs_in_and_saves_a_guest(house: House) -> None:
    signed_up = await house.post("/v1/auth/signup", ANNA)
    assert signed_up.status == 201
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

    bearer = {"Authorization": f"Bearer {logged_in.body['access_token']}"}
    saved = await house.post("/v1/users/guests", {"name": "Bo", "gender": "MALE", "age": 7}, headers=bearer)
    assert saved.status == 201
    assert saved.body == {
        "id": 1,
        "user_id": signed_up.body["id"],
        "name": "Bo",
        "gender": "MALE",
        "age": 7,
    }


async def test_an_address_has_one_account_whatever_its_case(house: House) -> None:
    await house.post("/v1/auth/signup", ANNA)
    again = await house.post("/v1/auth/signup", ANNA | {"email": "ANNA@example.com"})
    assert (again.status, again.body) == (400, {"detail": "already registered"})


async def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(house: House) -> None:
    await house.post("/v1/auth/signup", ANNA)
    wrong = await house.post("/v1/auth/login", {"email": ANNA["email"], "password": "wrong horse"})
    unknown = await house.post("/v1/auth/login", {"email": "nobody@example.com", "password": "wrong horse"})
    assert (wrong.status, wrong.body) == (401, {"detail": "invalid e-mail or password"})
    assert (unknown.status, unknown.body) == (wrong.status, wrong.body)


async def test_an_account_that_cannot_be_made_is_refused(house: House) -> None:
    for changes in (
        {"password": "ä" * 37},
        {"password": "short"},
        {"password": "zero\0byte"},
        {"email": "nobody"},
        {"name": "a\u0000b"},
        {"roles": ["HOTEL_MANAGER"]},
        {"id": 7},
    ):
        refused = await house.post("/v1/auth/signup", ANNA | changes)
        assert (refused.status, type(refused.body["detail"])) == (422, str), changes


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


def _signed(**changes: Any) -> str:
    return jwt.encode(_claims(**changes), JWT_KEY, algorithm="HS256")


def _unsigned() -> str:
    parts = [{"alg": "none", "typ": "JWT"}, _claims()]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


FORGED: dict[str, Callable[[], str]] = {
    "none": _unsigned,
    "another key": lambda: jwt.encode(_claims(), "another key of thirty-two bytes and more", algorithm="HS256"),
    "another algorithm": lambda: jwt.encode(_claims(), JWT_KEY + "!" * 32, algorithm="HS512"),
    "a key of their own": lambda: jwt.encode(
        _claims(), "known to them and thirty-two bytes long", algorithm="HS256", headers={"kid": "../../dev/null"}
    ),
    "a critical extension": lambda: jwt.encode(
        _claims(), JWT_KEY, algorithm="HS256", headers={"crit": ["x"], "x": True}
    ),
    "expired": lambda: _signed(exp=int(time.time()) - 1),
    "no end": lambda: _signed(exp=None),
    "no issue time": lambda: _signed(iat=None),
    "issued tomorrow": lambda: _signed(iat=int(time.time()) + 86400),
    "a refresh token": lambda: _signed(type="refresh"),
    "no type": lambda: _signed(type=None),
    "another issuer": lambda: _signed(iss="elsewhere"),
    "another audience": lambda: _signed(aud="elsewhere"),
    "nobody": lambda: _signed(sub=None),
    "no number": lambda: _signed(sub="anna"),
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
    bearer = {"Authorization": f"Bearer {_signed()}"}
    assert (await house.post("/v1/users/guests", {"name": "Bo"}, headers=bearer)).status == 201
    in_an_hour = time.time() + 3600
    monkeypatch.setattr("ingress.tokens.time.time", lambda: in_an_hour)
    assert (await house.post("/v1/users/guests", {"name": "Bo"}, headers=bearer)).status == 401


async def test_without_a_token_nobody_books(house: House) -> None:
    assert (await house.post("/v1/bookings/init", {})).status == 401
