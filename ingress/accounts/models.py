"""The bodies and responses of operations on accounts, logins, profiles and saved guests."""

from datetime import UTC, date, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from ingress.http.models import Body, Changes, Email, Gender, Line, OutModel, left_out

_FIRST_BIRTH: Final = date(1900, 1, 1)


class Signup(Body):
    """A new account. The password is at most 72 bytes, and hard to guess."""

    email: Email
    password: Annotated[str, StringConstraints(min_length=8)]
    name: Line | None = None


class Login(Body):
    """The e-mail address and the password of an account."""

    email: Annotated[str, StringConstraints(max_length=254)]
    password: str


class AccountOut(OutModel, title="AccountShown"):
    """An account as its user sees it."""

    id: int
    email: str
    name: str | None
    date_of_birth: date | None
    gender: Gender | None
    roles: list[str]


class AccessToken(OutModel):
    """A JWT for the `Authorization` header."""

    access_token: str
    token_type: str


def _can_be_a_birth(day: date) -> date:
    # Today in UTC may be yesterday elsewhere; nobody that young has an account, though.
    if not _FIRST_BIRTH <= day <= datetime.now(UTC).date():
        raise ValueError(f"must be between {_FIRST_BIRTH} and today")
    return day


BirthDate = Annotated[date, AfterValidator(_can_be_a_birth)]
Age = Annotated[int, Field(ge=0, le=150)]


class ProfileChanges(Changes):
    """Changes to a profile; null clears a field."""

    name: Line | None = None
    date_of_birth: BirthDate | None = None
    gender: Gender | None = None


class Host(AccountOut, AccessToken, title="Host"):
    """A host's account, and an access token that has the new role."""


class NewGuest(Body):
    """Somebody whom the account may name as staying."""

    name: Line
    gender: Gender | None = None
    age: Age | None = None


class GuestChanges(Changes):
    """Changes to a saved guest; null clears gender or age."""

    name: Line = left_out()
    gender: Gender | None = None
    age: Age | None = None


class SavedGuest(OutModel):
    """Somebody whom the account may name as staying."""

    id: int
    user_id: int
    name: str
    gender: Gender | None
    age: int | None
