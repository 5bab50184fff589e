"""What an account says of itself and of the people who travel with it, and how it becomes a host's."""

from datetime import UTC, date, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from ingress.accounts.auth import AccessToken, AccountShown, access_token
from ingress.database import Database
from ingress.http.answers import Answer, answer, no_content
from ingress.http.models import Body, Changes, Gender, Id, Line, NoBody, NoQuery, Problems, Shown, left_out
from ingress.http.paging import NEXT_PAGE, Cursors, Paged, first_page, link_to_next
from ingress.http.problems import Problem
from ingress.http.versions import ETAG_HEADER, IF_MATCH, changed_meanwhile, etag, expected_versions
from ingress.operations import Access, Asked, Example, Reply, operation
from ingress.tokens import Tokens
from storage import accounts, guests
from storage.accounts import MANAGER

_FIRST_BIRTH: Final = date(1900, 1, 1)
_GUEST: Final = {"guest_id": 1}
_guest_ids: Final = Cursors(Id)


def _can_be_a_birth(day: date) -> date:
    # Where today has begun already somebody may have been born on it; nobody that young has an account, though.
    if not _FIRST_BIRTH <= day <= datetime.now(UTC).date():
        raise ValueError(f"must be between {_FIRST_BIRTH} and today")
    return day


BirthDate = Annotated[date, AfterValidator(_can_be_a_birth)]
Age = Annotated[int, Field(ge=0, le=150)]


class ProfileChanges(Changes):
    """What an account says of itself; null takes it back."""

    name: Line | None = None
    date_of_birth: BirthDate | None = None
    gender: Gender | None = None


class Host(AccountShown, AccessToken):
    """A host's account, and an access token that has the new role."""


class NewGuest(Body):
    """Somebody whom the account may name as staying."""

    name: Line
    gender: Gender | None = None
    age: Age | None = None


class GuestChanges(Changes):
    """What is different about a guest; null takes gender or age back."""

    name: Line = left_out()
    gender: Gender | None = None
    age: Age | None = None


class SavedGuest(Shown):
    """Somebody whom the account may name as staying."""

    id: int
    user_id: int
    name: str
    gender: Gender | None
    age: int | None


class Users:
    """Answers everything about one's own account."""

    def __init__(self, database: Database, tokens: Tokens, *, anybody_may_host: bool) -> None:
        self._database = database
        self._tokens = tokens
        self._anybody_may_host = anybody_may_host

    @operation(
        "GET /users/profile",
        access=Access.USER,
        summary="Show the profile",
        answers={200: Reply(AccountShown, headers=ETAG_HEADER)},
        example=Example(),
    )
    async def profile(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Tell what the account says of itself, and its roles as they stand."""
        async with self._database.reading() as connection:
            account = await accounts.account(connection, asked.caller.user_id)
        if account is None:
            raise _account_is_gone()
        return answer(200, AccountShown.model_validate(account), etag(account.version))

    @operation(
        "PATCH /users/profile",
        access=Access.USER,
        summary="Change the profile",
        answers={200: Reply(AccountShown, headers=ETAG_HEADER)},
        example=Example(body={"name": "Grace Hopper", "date_of_birth": "1906-12-09", "gender": "FEMALE"}),
        headers=(IF_MATCH,),
    )
    async def change_profile(self, asked: Asked[ProfileChanges, NoQuery]) -> Answer:
        """Change what is sent, leave the rest; with `If-Match` only if the profile is still as it was read."""
        user_id, versions = asked.caller.user_id, expected_versions(asked.request)
        async with self._database.writing() as connection:
            account = await accounts.change_account(connection, user_id, asked.body.changed(), versions=versions)
            if account is None and await accounts.lock(connection, user_id) is None:
                raise _account_is_gone()
        if account is None:
            raise changed_meanwhile()
        return answer(200, AccountShown.model_validate(account), etag(account.version))

    @operation(
        "POST /users/host",
        access=Access.USER,
        summary="Become a host",
        answers={200: Host, 403: Reply(Problems, "Hosts are made by the operators here.")},
        example=Example(),
    )
    async def become_host(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Give the account the role of a hotel manager, once, and a new access token: the old one does not have it."""
        if not self._anybody_may_host:
            raise Problem(403, "hosts are made by the operators here")
        user_id = asked.caller.user_id
        async with self._database.writing() as connection:
            await accounts.add_role(connection, user_id, MANAGER)
            account = await accounts.account(connection, user_id)
        if account is None:
            raise _account_is_gone()
        shown = AccountShown.model_validate(account).model_dump()
        token = access_token(self._tokens, user_id, account.roles).model_dump()
        return answer(200, Host(**shown, **token))

    @operation(
        "POST /users/guests",
        access=Access.USER,
        summary="Save a guest",
        answers={201: Reply(SavedGuest, headers={"Location": "The guest."})},
        example=Example(status=201, body={"name": "Ada", "gender": "FEMALE", "age": 36}),
        links={
            name: {"guest_id": "$response.body#/id"}
            for name in ("guest", "replace_guest", "change_guest", "delete_guest")
        },
    )
    async def save_guest(self, asked: Asked[NewGuest, NoQuery]) -> Answer:
        """Save somebody whom the account may name as staying."""
        async with self._database.writing() as connection:
            saved = await guests.add_guest(connection, user_id=asked.caller.user_id, **asked.body.model_dump())
        if saved is None:
            raise _account_is_gone()
        headers = {"Location": asked.link(f"/users/guests/{saved.id}")}
        return answer(201, SavedGuest.model_validate(saved), headers)

    @operation(
        "GET /users/guests",
        access=Access.USER,
        summary="List saved guests",
        answers={200: Reply(list[SavedGuest], "In the order in which they were saved.", NEXT_PAGE)},
        example=Example(query={"limit": 10}),
    )
    async def list_guests(self, asked: Asked[NoBody, Paged]) -> Answer:
        """Tell whom the account may name as staying."""
        wanted = asked.query
        after = _guest_ids.read(wanted.cursor) or 0
        async with self._database.reading() as connection:
            rows = await guests.own_guests(connection, asked.caller.user_id, after=after, limit=wanted.limit + 1)
        page, last = first_page(rows, wanted.limit)
        shown = [SavedGuest.model_validate(guest) for guest in page]
        return answer(200, shown, link_to_next(asked.request, last, lambda guest: _guest_ids.write(guest.id)))

    @operation(
        "GET /users/guests/{guest_id}",
        access=Access.USER,
        summary="Show a saved guest",
        answers={200: SavedGuest},
        example=Example(path=_GUEST),
    )
    async def guest(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Tell of one whom the account may name as staying."""
        async with self._database.reading() as connection:
            found = await guests.own_guest(connection, asked.caller.user_id, asked.path["guest_id"])
        return _shown(found)

    @operation(
        "PUT /users/guests/{guest_id}",
        access=Access.USER,
        summary="Replace a saved guest",
        answers={200: SavedGuest},
        example=Example(path=_GUEST, body={"name": "Ada Lovelace", "gender": "FEMALE", "age": 36}),
    )
    async def replace_guest(self, asked: Asked[NewGuest, NoQuery]) -> Answer:
        """Say anew who it is; what is left out is taken back. Bookings that name the guest show it so."""
        async with self._database.writing() as connection:
            found = await guests.change_guest(
                connection, asked.caller.user_id, asked.path["guest_id"], asked.body.model_dump()
            )
        return _shown(found)

    @operation(
        "PATCH /users/guests/{guest_id}",
        access=Access.USER,
        summary="Change a saved guest",
        answers={200: SavedGuest},
        example=Example(path=_GUEST, body={"age": 37}),
    )
    async def change_guest(self, asked: Asked[GuestChanges, NoQuery]) -> Answer:
        """Change what is sent, leave the rest. Bookings that name the guest show it so."""
        async with self._database.writing() as connection:
            found = await guests.change_guest(
                connection, asked.caller.user_id, asked.path["guest_id"], asked.body.changed()
            )
        return _shown(found)

    @operation(
        "DELETE /users/guests/{guest_id}",
        access=Access.USER,
        summary="Delete a saved guest",
        answers={204: None, 409: Reply(Problems, "A booking that is not over names the guest.")},
        example=Example(status=204, path=_GUEST),
    )
    async def delete_guest(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Delete a guest whom no booking needs: none that is held or confirmed until its check-out day has passed.

        Nor one that expired within a day: a payment on its way can still bring it back. Bookings that are over or
        cancelled no longer show who was deleted.
        """
        user_id, guest_id = asked.caller.user_id, asked.path["guest_id"]
        async with self._database.writing() as connection:
            deleted = await guests.delete_guest(connection, user_id, guest_id)
            kept = None if deleted else await guests.own_guest(connection, user_id, guest_id)
        if kept is not None:
            raise Problem(409, "a booking that is not over names this guest", more={"reason": "guest_stays"})
        if not deleted:
            raise _no_such_guest()
        return no_content()


def _shown(found: guests.SavedGuest | None) -> Answer:
    if found is None:
        raise _no_such_guest()
    return answer(200, SavedGuest.model_validate(found))


def _no_such_guest() -> Problem:
    return Problem(404, "no such guest")


def _account_is_gone() -> Problem:
    return Problem(401, "the account is gone", headers={"WWW-Authenticate": "Bearer"})
