"""Operations of managers on the promo codes of their hotels.

A code's row has its text and the number of its changes. Each change goes as a command to the code's partition, whose
worker decides terms and uses; the terms in force and the number of uses are read from the ledger.
"""

import dataclasses
from typing import Final

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.admin.codes.conversion import code_out, terms_of
from ingress.admin.codes.models import CodeIn, CodeOut, NewCodeIn
from ingress.admin.resources import AnyContext, Resource, after_id
from ingress.database import Database, snapshot
from ingress.http.deadlines import otherwise
from ingress.http.models import NoBody, NoQuery, Problems
from ingress.http.paging import NEXT_PAGE, Paged
from ingress.http.preferences import PREFER
from ingress.http.problems import Problem, existing
from ingress.http.responses import Response, json_response, no_content
from ingress.http.rollout import Rollout
from ingress.http.versions import ETAG_HEADER, IF_MATCH, etag
from ingress.http.waiting import ACCEPTED, ACCEPTED_HEADERS, WAITED_HEADERS, accepted, waited_headers
from ingress.log.commands import Commands
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from storage import code_names, hotels
from storage.code_names import CodeRow
from storage.hotels import HotelRow
from topics.messages.commands import SetCode
from topics.messages.events import CodeUnchanged
from topics.messages.sale import CodeTerms
from topics.messages.values import CodeRefusal

_CODES: Final = "/admin/hotels/{hotel_id}/codes"
_HOTEL_PATH: Final = {"hotel_id": 1}
_CODE_PATH: Final = {**_HOTEL_PATH, "code": "SUMMER"}
_WAITING: Final = {"Prefer": "wait=5"}
_STEERING: Final = (IF_MATCH, PREFER)
_IN_FORCE: Final = {**ETAG_HEADER, **WAITED_HEADERS}
_NOT_YET: Final = {**ETAG_HEADER, **ACCEPTED_HEADERS}
_NEWER: Final = "Newer terms are in force, after a restore from a backup: the same request again goes on."
_EXAMPLE_TERMS: Final = {
    "percent": "15",
    "valid_until": "2026-12-31T23:00:00Z",
    "start_date": "2026-12-01",
    "end_date": "2027-02-28",
    "max_uses": 100,
    "max_account_uses": 1,
}


class AdminCodes:
    """The operations of managers on promo codes."""

    def __init__(self, database: Database, *, commands: Commands, rollout: Rollout) -> None:
        self._database = database
        self._commands = commands
        self._rollout = rollout
        self._codes: Resource[CodeRow] = Resource("promo code", _own_code, code_out)

    @operation(
        f"GET {_CODES}",
        access=Access.MANAGER,
        summary="List a hotel's promo codes",
        responses={200: ResponseSpec(list[CodeOut], "In the order in which they were added.", NEXT_PAGE)},
        example=Example(path=_HOTEL_PATH, query={"limit": 10}),
    )
    async def list_codes(self, context: RequestContext[NoBody, Paged]) -> Response:
        """List the promo codes of one's hotel, with the terms in force and the number of uses; inactive ones too."""
        after = after_id(context)
        async with self._database.reading() as connection, snapshot(connection):
            hotel = await _own_hotel(connection, context)
            rows = await code_names.codes_of(connection, hotel.id, after=after, limit=context.query.limit)
        return self._codes.page(context, rows)

    @operation(
        f"POST {_CODES}",
        access=Access.MANAGER,
        summary="Add a promo code",
        responses={
            201: ResponseSpec(CodeOut, "In force: the request waited for it.", {"Location": "The code.", **_IN_FORCE}),
            202: ResponseSpec(CodeOut, ACCEPTED, _NOT_YET),
            409: ResponseSpec(Problems, "The hotel has the code already, in whatever case."),
        },
        example=Example(status=201, path=_HOTEL_PATH, headers=_WAITING, body={"code": "SUMMER", **_EXAMPLE_TERMS}),
        headers=(PREFER,),
    )
    async def add_code(self, context: RequestContext[NewCodeIn, NoQuery]) -> Response:
        """Add a promo code to one's hotel. As long as no terms of it are in force, the same request again goes on."""
        hotel_id, text = context.path["hotel_id"], context.body.code
        self._must_be_decidable(hotel_id)
        async with self._database.writing() as connection:
            hotel = await _own_hotel(connection, context)
            is_new = await code_names.add_code(connection, hotel.id, text)
            row = existing(await code_names.code_of(connection, hotel.id, text, lock=True), "promo code")
            if row.terms is not None:
                raise Problem(
                    409, f"the hotel has the code {row.code} already: change that one", more={"reason": "code_exists"}
                )
            version = row.version if is_new else await code_names.raise_code_version(connection, row)
            command = await _command(connection, hotel, row, context.body, version)
        shown = await self._sent(context, row, command)
        path = f"/admin/hotels/{hotel.id}/codes/{row.code}"
        if _lags(shown):
            return accepted(context, code_out(shown), path, etag(shown.version))
        headers = {"Location": context.link(path), **etag(shown.version), **waited_headers(context)}
        return json_response(201, code_out(shown), headers)

    @operation(
        f"GET {_CODES}/{{code}}",
        access=Access.MANAGER,
        summary="Read a promo code",
        responses={200: ResponseSpec(CodeOut, headers=ETAG_HEADER)},
        example=Example(path=_CODE_PATH),
    )
    async def read_code(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read a promo code of one's hotel, with the terms in force and the number of uses."""
        async with self._database.reading() as connection, snapshot(connection):
            row = await self._codes.find(connection, context)
        return self._codes.response(row)

    @operation(
        f"PUT {_CODES}/{{code}}",
        access=Access.MANAGER,
        summary="Set the terms of a promo code",
        responses={
            200: ResponseSpec(CodeOut, "In force: the request waited for it.", _IN_FORCE),
            202: ResponseSpec(CodeOut, ACCEPTED, _NOT_YET),
            409: ResponseSpec(Problems, _NEWER),
        },
        example=Example(path=_CODE_PATH, headers=_WAITING, body=_EXAMPLE_TERMS),
        headers=_STEERING,
    )
    async def set_code(self, context: RequestContext[CodeIn, NoQuery]) -> Response:
        """Replace the terms of a promo code, for bookings from now on. The same request again sends them again."""
        self._must_be_decidable(context.path["hotel_id"])
        async with self._database.writing() as connection:
            hotel = await _own_hotel(connection, context)
            row = await self._codes.lock_to_change(connection, context)
            command = await _command(connection, hotel, row, context.body, row.version)
            if row.terms != command.terms:
                version = await code_names.raise_code_version(connection, row)
                command = replace(command, terms=replace(command.terms, version=version))
        shown = await self._sent(context, row, command)
        if _lags(shown):
            return accepted(context, code_out(shown), _path(shown), etag(shown.version))
        return json_response(200, code_out(shown), {**etag(shown.version), **waited_headers(context)})

    @operation(
        f"DELETE {_CODES}/{{code}}",
        access=Access.MANAGER,
        summary="Deactivate a promo code",
        responses={
            202: ResponseSpec(CodeOut, ACCEPTED, _NOT_YET),
            204: ResponseSpec(None, "Refused from now on: the request waited for it.", _IN_FORCE),
            409: ResponseSpec(Problems, f"No terms of the code are in force yet. {_NEWER}"),
        },
        example=Example(status=204, path=_CODE_PATH, headers=_WAITING),
        headers=_STEERING,
    )
    async def deactivate_code(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Take a promo code out of use. It stays in the list, and bookings that use it keep their discount."""
        self._must_be_decidable(context.path["hotel_id"])
        async with self._database.writing() as connection:
            hotel = await _own_hotel(connection, context)
            row = await self._codes.lock_to_change(connection, context)
            if row.terms is None:
                raise Problem(409, "not in force yet, retry", headers={"Retry-After": "1"}, more={"reason": "pending"})
            terms = row.terms
            if terms.active or row.version != terms.version:
                version = await code_names.raise_code_version(connection, row)
                terms = replace(terms, active=False, version=version)
        shown = await self._sent(context, row, SetCode(code_id=row.id, hotel_id=hotel.id, terms=terms))
        if _lags(shown):
            return accepted(context, code_out(shown), _path(shown), etag(shown.version))
        return no_content({**etag(shown.version), **waited_headers(context)})

    def _must_be_decidable(self, hotel_id: int) -> None:
        """Check that all workers that run know promo codes. Raises `Problem` 503 during a rollout."""
        self._rollout.must_be_decidable(SetCode(code_id=0, hotel_id=hotel_id, terms=CodeTerms(version=0, code="")))

    async def _sent(self, context: AnyContext, row: CodeRow, command: SetCode) -> CodeRow:
        """Send the terms of a change that is stored to the code of this row, and return the code as it is then.

        Raises:
            Problem: 503, the broker did not take the command; 409, newer terms are in force, and not by a later change.
        """
        try:
            event = await self._commands.send_command(command, context.wait_seconds)
        except Problem as problem:
            raise _not_sent(command.terms.version) from problem
        changed = dataclasses.replace(row, version=command.terms.version)
        otherwise(lambda: accepted(context, code_out(changed), _path(changed), etag(changed.version)))
        async with self._database.reading() as connection, snapshot(connection):
            row = existing(await code_names.code_of(connection, command.hotel_id, command.terms.code), "promo code")
        if isinstance(event, CodeUnchanged) and event.reason is not None:
            if event.reason is not CodeRefusal.NEWER_TERMS:
                raise TypeError(f"the terms of promo code {command.code_id} were valid here: {event.reason}")
            if row.version == command.terms.version:
                raise _newer_in_force(row.version)
        return row


def _lags(row: CodeRow) -> bool:
    return row.version_in_force < row.version


def _path(row: CodeRow) -> str:
    return f"/admin/hotels/{row.hotel_id}/codes/{row.code}"


async def _own_hotel(connection: AsyncConnection, context: AnyContext) -> HotelRow:
    return existing(await hotels.own_hotel(connection, context.path["hotel_id"], context.caller.user_id), "hotel")


async def _own_code(connection: AsyncConnection, context: AnyContext, *, lock: bool) -> CodeRow | None:
    hotel = await _own_hotel(connection, context)
    return await code_names.code_of(connection, hotel.id, context.path["code"], lock=lock)


async def _command(connection: AsyncConnection, hotel: HotelRow, row: CodeRow, body: CodeIn, version: int) -> SetCode:
    """Return the command that gives a code the terms of a request. Raises `Problem` 422 for terms that are wrong."""
    rooms = await hotels.rooms_to_close(connection, hotel.id)
    terms = terms_of(
        body, code=row.code, version=version, currency=hotel.currency, room_ids={room.id for room in rooms}
    )
    return SetCode(code_id=row.id, hotel_id=hotel.id, terms=terms)


def _not_sent(version: int) -> Problem:
    return Problem(
        503,
        "the change is stored, and the broker did not take it: send the same request again, it goes on",
        headers={"Retry-After": "2", **etag(version)},
        more={"reason": "not_sent_yet"},
    )


def _newer_in_force(version: int) -> Problem:
    return Problem(
        409,
        "the change is stored, and newer terms are in force: send the same request again, it goes on",
        headers=etag(version),
        more={"reason": "newer_terms"},
    )
