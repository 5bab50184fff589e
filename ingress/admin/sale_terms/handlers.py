"""Operations of managers on the sale terms of their hotels and the rate plans of their rooms.

Descriptions are rows; every change raises the version of the hotel's terms, and goes to all its rooms as commands
(`ingress.admin.sale_terms.sending`). A room is sold by the terms that its worker has decided: their `version` is beside
each room in the responses.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.admin.resources import AnyContext
from ingress.admin.sale_terms.conversion import hotel_terms_of, plan_of, plan_out, policy_out, tax_out
from ingress.admin.sale_terms.models import (
    ChangedPlan,
    RatePlanIn,
    RatePlanOut,
    RoomVersionOut,
    SaleTermsIn,
    SaleTermsOut,
    TermsVersion,
)
from ingress.admin.sale_terms.sending import SaleTermsSender
from ingress.database import Database, snapshot
from ingress.http.bodies import refused_field
from ingress.http.deadlines import otherwise
from ingress.http.models import NoBody, NoQuery, Problems
from ingress.http.preferences import PREFER
from ingress.http.problems import Problem, existing, no_such
from ingress.http.responses import Response, json_response, no_content
from ingress.http.versions import ETAG_HEADER, IF_MATCH, etag, must_be_expected
from ingress.http.waiting import ACCEPTED, ACCEPTED_HEADERS, WAITED_HEADERS, accepted, waited_headers
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from pricing.terms import MAX_PLANS
from storage import hotels, offers
from storage.hotels import HotelRow, RoomRow
from storage.offers import HotelTerms, PlanRow
from topics.messages.commands import SetSaleTerms

_TERMS: Final = "/admin/hotels/{hotel_id}/sale-terms"
_PLANS: Final = "/admin/hotels/{hotel_id}/rooms/{room_id}/plans"
_HOTEL_PATH: Final = {"hotel_id": 1}
_ROOM_PATH: Final = {"hotel_id": 1, "room_id": 1}
_PLAN_PATH: Final = {**_ROOM_PATH, "plan_id": "saver"}
_WAITING: Final = {"Prefer": "wait=5"}
_STEERING: Final = (IF_MATCH, PREFER)
_IN_FORCE: Final = {**ETAG_HEADER, **WAITED_HEADERS}
_NOT_YET: Final = {**ETAG_HEADER, **ACCEPTED_HEADERS}
_NEWER: Final = "A room is sold by newer terms, after a restore from a backup: the same request again goes on."
_OR_NEWER: Final = f"or {_NEWER[0].lower()}{_NEWER[1:]}"
_EXAMPLE_TERMS: Final = {
    "taxes": [
        {"id": "vat", "name": "VAT", "percent": "7", "included": True},
        {
            "id": "city",
            "name": "City tax",
            "amount": "2.00",
            "per_night": True,
            "per_person": True,
            "min_age": 13,
            "collected": "at_hotel",
        },
    ],
    "policies": [
        {
            "id": "two_days",
            "steps": [{"hours_before": 48, "kept": {"nights": 1}}, {"hours_before": 24, "kept": {"percent": 100}}],
            "no_show": {"percent": 100},
            "early_departure_percent": 50,
        }
    ],
    "infant_max_age": 2,
}
_EXAMPLE_PLAN: Final = {
    "name": "Saver with breakfast",
    "meals": "breakfast",
    "payment": "prepaid",
    "policy_id": None,
    "price_percent": "90",
    "price_plus": "12.00",
    "included_adults": 2,
    "extra_adult": "25.00",
    "child_bands": [{"up_to_age": 5, "price": "0"}, {"up_to_age": 12, "price": "15.00"}],
    "rules": [{"start_date": "2026-12-20", "end_date": "2026-12-31", "min_nights": 3}],
}

BodyType = TypeVar("BodyType")


class AdminSaleTerms:
    """The operations of managers on taxes, fees, cancellation policies and rate plans."""

    def __init__(self, database: Database, sender: SaleTermsSender) -> None:
        self._database = database
        self._sender = sender

    @operation(
        f"GET {_TERMS}",
        access=Access.MANAGER,
        summary="Read a hotel's taxes, fees and cancellation policies",
        responses={200: ResponseSpec(SaleTermsOut, headers=ETAG_HEADER)},
        example=Example(path=_HOTEL_PATH),
    )
    async def read_sale_terms(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read the terms that count for all rooms of one's hotel; `rooms` has the version in force in each of them."""
        async with self._database.reading() as connection, snapshot(connection):
            hotel = await _own_hotel(connection, context)
            terms = await offers.hotel_terms(connection, hotel.id)
            body = await _terms_out(connection, hotel, terms)
        return json_response(200, body, etag(terms.version))

    @operation(
        f"PUT {_TERMS}",
        access=Access.MANAGER,
        summary="Set a hotel's taxes, fees and cancellation policies",
        responses={
            200: ResponseSpec(SaleTermsOut, "In force in all rooms: the request waited for it.", _IN_FORCE),
            202: ResponseSpec(SaleTermsOut, ACCEPTED, _NOT_YET),
            409: ResponseSpec(Problems, f"A rate plan names a policy that would be gone; {_OR_NEWER}"),
        },
        example=Example(path=_HOTEL_PATH, headers=_WAITING, body=_EXAMPLE_TERMS),
        headers=_STEERING,
    )
    async def set_sale_terms(self, context: RequestContext[SaleTermsIn, NoQuery]) -> Response:
        """Replace taxes, fees and policies, for bookings from now on; those that are booked keep theirs.

        The same request again changes nothing, and sends the terms again to rooms that lag.
        """
        hotel_id = context.path["hotel_id"]
        self._sender.must_be_decidable(hotel_id)
        async with self._database.writing() as connection:
            hotel, terms = await _lock_to_change(connection, context)
            wanted = hotel_terms_of(context.body, hotel.currency)
            await _must_have_policies_in_use(connection, hotel, wanted)
            if not _are_same(terms, wanted):
                terms = await offers.raise_version(connection, hotel.id, wanted)
            terms, commands = await self._sender.commands(connection, hotel, terms)
        refused = await self._sender.send(commands, context.wait_seconds, terms.version)
        otherwise(partial(_accepted_unread, context, terms.version))
        async with self._database.reading() as connection, snapshot(connection):
            now = await offers.hotel_terms(connection, hotel.id)
            body = await _terms_out(connection, hotel, now)
        return _answer(context, commands, body, refused)

    @operation(
        f"GET {_PLANS}",
        access=Access.MANAGER,
        summary="List a room's rate plans",
        responses={200: ResponseSpec(list[RatePlanOut], "In the order in which they were added.", ETAG_HEADER)},
        example=Example(path=_ROOM_PATH),
    )
    async def list_plans(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """List the rate plans of a room; one that has no other has the plan `standard`."""
        async with self._database.reading() as connection, snapshot(connection):
            room = await _own_room(connection, context)
            terms = await offers.hotel_terms(connection, room.hotel_id)
            plans = (await offers.plans_of(connection, [room.id]))[room.id]
        return json_response(200, [plan_out(row, room.currency) for row in plans], etag(terms.version))

    @operation(
        f"PUT {_PLANS}/{{plan_id}}",
        access=Access.MANAGER,
        summary="Set a rate plan of a room",
        responses={
            200: ResponseSpec(ChangedPlan, "In force: the request waited for it.", _IN_FORCE),
            202: ResponseSpec(ChangedPlan, ACCEPTED, _NOT_YET),
            409: ResponseSpec(Problems, _NEWER),
        },
        example=Example(path=_PLAN_PATH, headers=_WAITING, body=_EXAMPLE_PLAN),
        headers=_STEERING,
    )
    async def set_plan(self, context: RequestContext[RatePlanIn, NoQuery]) -> Response:
        """Add or replace a rate plan, for bookings from now on; those that are booked keep theirs.

        A room is sold by `standard` until then, and goes on to be. The same request again sends it again.
        """
        plan_id = context.path["plan_id"]
        self._sender.must_be_decidable(context.path["hotel_id"])
        async with self._database.writing() as connection:
            hotel, terms = await _lock_to_change(connection, context)
            room = await _own_room(connection, context)
            if terms.policy(context.body.policy_id) is None:
                raise refused_field("policy_id", "the hotel has no such policy")
            before = (await offers.plans_of(connection, [room.id]))[room.id]
            row = _planned(before, context.body, plan_id, room)
            if row not in before or not terms.version:
                # The standard plan, which was implied, becomes a row together with the first other one.
                others = [each for each in before if each.id != plan_id] if len(before) == 1 else []
                await offers.save_plans(connection, [*others, row])
                terms = await offers.raise_version(connection, hotel.id)
            terms, commands = await self._sender.commands(connection, hotel, terms)
        refused = await self._sender.send(commands, context.wait_seconds, terms.version)
        otherwise(partial(_accepted_unread, context, terms.version))
        now = await self._version(hotel.id)
        body = ChangedPlan(version=now.version, rooms=now.rooms, plan=plan_out(row, room.currency))
        return _answer(context, commands, body, refused)

    @operation(
        f"DELETE {_PLANS}/{{plan_id}}",
        access=Access.MANAGER,
        summary="Delete a rate plan of a room",
        responses={
            202: ResponseSpec(TermsVersion, ACCEPTED, _NOT_YET),
            204: ResponseSpec(None, "No longer sold: the request waited for it.", _IN_FORCE),
            409: ResponseSpec(Problems, f"It is the only plan of the room; {_OR_NEWER}"),
        },
        example=Example(status=204, path=_PLAN_PATH, headers=_WAITING),
        headers=_STEERING,
    )
    async def delete_plan(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Sell a room no longer by a rate plan; bookings by it stay. The last plan of a room stays, too.

        The same request again is answered 404, or goes on where the first one did not reach all rooms.
        """
        plan_id = context.path["plan_id"]
        self._sender.must_be_decidable(context.path["hotel_id"])
        async with self._database.writing() as connection:
            hotel, terms = await _lock_to_change(connection, context)
            room = await _own_room(connection, context)
            plans = (await offers.plans_of(connection, [room.id]))[room.id]
            if plan_id in [row.id for row in plans]:
                if len(plans) == 1:
                    raise Problem(
                        409, "it is the only rate plan of the room: add another one first", more={"reason": "only_plan"}
                    )
                await offers.delete_plan(connection, room.id, plan_id)
                terms = await offers.raise_version(connection, hotel.id)
            elif not await _some_room_lags(connection, terms, hotel.id):
                raise no_such("rate plan")
            terms, commands = await self._sender.commands(connection, hotel, terms)
        refused = await self._sender.send(commands, context.wait_seconds, terms.version)
        otherwise(partial(_accepted_unread, context, terms.version))
        body = await self._version(hotel.id)
        answer = _answer(context, commands, body, refused)
        return answer if answer.status == 202 else no_content({**etag(body.version), **waited_headers(context)})

    async def _version(self, hotel_id: int) -> TermsVersion:
        async with self._database.reading() as connection, snapshot(connection):
            terms = await offers.hotel_terms(connection, hotel_id)
            return TermsVersion(version=terms.version, rooms=await _rooms_out(connection, hotel_id))


def _accepted_unread(context: AnyContext, version: int) -> Response:
    """Return 202 for terms that were sent; the versions that rooms are sold by could not be read."""
    body = TermsVersion(version=version, rooms=[])
    return accepted(context, body, f"/admin/hotels/{context.path['hotel_id']}/sale-terms", etag(version))


def _answer(
    context: AnyContext, commands: Sequence[SetSaleTerms], body: TermsVersion, refused: Sequence[int]
) -> Response:
    """Return 200 if the hotel's terms are in force in all its rooms by now, 202 if not or if nobody waited for it.

    Raises:
        Problem: 409, rooms have refused the terms, and those that they are sold by are not of a later change.
    """
    headers = etag(body.version)
    if refused and body.version == commands[0].terms.version:
        raise _newer_in_force(refused, headers)
    is_pending = bool(commands) and not context.wait_seconds
    if is_pending or any(room.version < body.version for room in body.rooms):
        return accepted(context, body, f"/admin/hotels/{context.path['hotel_id']}/sale-terms", headers)
    return json_response(200, body, {**headers, **waited_headers(context)})


def _newer_in_force(room_ids: Sequence[int], headers: dict[str, str]) -> Problem:
    rooms = ", ".join(map(str, room_ids))
    return Problem(
        409,
        f"the change is stored, and rooms are sold by newer terms ({rooms}): send the same request again, it goes on",
        headers=headers,
        more={"reason": "newer_terms"},
    )


async def _some_room_lags(connection: AsyncConnection, terms: HotelTerms, hotel_id: int) -> bool:
    """Return whether a room of the hotel is not sold by the present terms, if the hotel has any."""
    rooms = await offers.versions_in_force(connection, hotel_id)
    return bool(terms.version) and any(room.version != terms.version for room in rooms)


async def _terms_out(connection: AsyncConnection, hotel: HotelRow, terms: HotelTerms) -> SaleTermsOut:
    return SaleTermsOut(
        version=terms.version,
        rooms=await _rooms_out(connection, hotel.id),
        hotel_id=hotel.id,
        currency=hotel.currency,
        taxes=[tax_out(tax, hotel.currency) for tax in terms.taxes],
        policies=[policy_out(policy, hotel.currency) for policy in terms.policies],
        infant_max_age=terms.infant_max_age,
        updated_at=terms.updated_at,
    )


async def _rooms_out(connection: AsyncConnection, hotel_id: int) -> list[RoomVersionOut]:
    return [RoomVersionOut.model_validate(row) for row in await offers.versions_in_force(connection, hotel_id)]


async def _own_hotel(connection: AsyncConnection, context: AnyContext, *, lock: bool = False) -> HotelRow:
    hotel_id, user_id = context.path["hotel_id"], context.caller.user_id
    return existing(await hotels.own_hotel(connection, hotel_id, user_id, lock=lock), "hotel")


async def _own_room(connection: AsyncConnection, context: AnyContext) -> RoomRow:
    path, user_id = context.path, context.caller.user_id
    return existing(await hotels.own_room(connection, path["room_id"], user_id, hotel_id=path["hotel_id"]), "room")


async def _lock_to_change(connection: AsyncConnection, context: AnyContext) -> tuple[HotelRow, HotelTerms]:
    """Return the caller's hotel, locked, and its terms.

    Raises:
        Problem: 404; 412 when the request insists on another version.
    """
    hotel = await _own_hotel(connection, context, lock=True)
    terms = await offers.hotel_terms(connection, hotel.id)
    must_be_expected(terms.version, context.request)
    return hotel, terms


async def _must_have_policies_in_use(connection: AsyncConnection, hotel: HotelRow, wanted: HotelTerms) -> None:
    """Check that no plan names a policy that would be gone. Raises `Problem` 409."""
    rooms = await hotels.rooms_to_close(connection, hotel.id)
    plans = await offers.plans_of(connection, [room.id for room in rooms])
    for row in (row for room in rooms for row in plans[room.id]):
        if wanted.policy(row.policy_id) is None:
            raise Problem(
                409,
                f"the rate plan {row.id} of room {row.room_id} names the policy {row.policy_id}: change the plan first",
                more={"reason": "policy_in_use"},
            )


def _are_same(terms: HotelTerms, wanted: HotelTerms) -> bool:
    """Return whether a hotel has the wanted terms already; terms that nobody has set are not the same as empty ones."""
    return bool(terms.version) and (terms.taxes, terms.policies, terms.infant_max_age) == (
        wanted.taxes,
        wanted.policies,
        wanted.infant_max_age,
    )


def _planned(before: Sequence[PlanRow], body: RatePlanIn, plan_id: str, room: RoomRow) -> PlanRow:
    """Return the row of a plan as a request describes it; a plan that exists keeps its place.

    Raises:
        Problem: 422 for a plan that is wrong, or one too many.
    """
    positions = {row.id: row.position for row in before}
    if plan_id not in positions and len(before) >= MAX_PLANS:
        raise Problem(422, f"a room has at most {MAX_PLANS} rate plans")
    return PlanRow(
        room_id=room.id,
        id=plan_id,
        position=positions.get(plan_id, max(positions.values()) + 1),
        policy_id=body.policy_id,
        plan=plan_of(body, plan_id, room.currency),
    )
