"""`POST /quotes`: the price of a stay by each rate plan, with a token that holds the price for some minutes.

Prices are computed by `pricing.sale.price_stay`, as the room's worker computes them when it decides. The ledger's
nights and sale terms are read from the primary, because the price is charged later.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime

from ingress.bookings.acceptance import accept_room
from ingress.bookings.models import QuotedOffer, QuoteOut, QuoteRequest
from ingress.bookings.promo_codes import quoted_discount
from ingress.bookings.rejections import rule_refusal
from ingress.bookings.representation import refusal
from ingress.bookings.rooms import Rooms
from ingress.database import Database, snapshot
from ingress.http.models import NoQuery, Problems, RefusedBooking
from ingress.http.responses import Response, json_response
from ingress.http.rollout import Rollout
from ingress.offers import approximation, offer_out
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.rates.exchange_rates import ExchangeRates
from ingress.stays import accept_people, accept_stay, today_at
from ingress.tokens import Quote, QuoteTokens
from pricing.sale import PricedStay, can_be_paid, party_rejection, price_stay, rules_rejection, standard_terms
from storage.reads.bookings import RoomFacts, RoomForSale, room_for_sale
from topics.messages.sale import Discount, Party, Quoted, RatePlan
from topics.messages.values import Rejection


class Quotes:
    """The operation that quotes stays."""

    def __init__(
        self,
        database: Database,
        *,
        rooms: Rooms,
        tokens: QuoteTokens,
        rollout: Rollout,
        exchange_rates: ExchangeRates,
        merchant_name: str,
        required_terms: str,
    ) -> None:
        self._database = database
        self._exchange_rates = exchange_rates
        self._rooms = rooms
        self._tokens = tokens
        self._rollout = rollout
        self._merchant_name = merchant_name
        self._required_terms = required_terms

    @operation(
        "POST /quotes",
        access=Access.USER,
        summary="Quote a stay",
        responses={
            200: ResponseSpec(QuoteOut, "The offers, in the order of the room's rate plans."),
            404: ResponseSpec(Problems, "The hotel has no such room."),
            409: ResponseSpec(RefusedBooking, "Nothing can be sold for this stay: `reason` is the reason."),
        },
        example=Example(
            body={
                "hotel_id": 1,
                "room_id": 1,
                "check_in_date": "2026-12-24",
                "check_out_date": "2026-12-27",
                "rooms_count": 1,
                "adults": 2,
            }
        ),
    )
    async def quote(self, context: RequestContext[QuoteRequest, NoQuery]) -> Response:
        """Quote a stay by one rate plan or by all: lines, what is charged now, and what a cancellation costs when.

        With an offer's `token` as its `quote`, `POST /bookings/init` is decided at this price until `good_until`. A
        `promo_code` is in the price, and its use is counted by `init`, which may still be refused then.
        """
        stay, user_id = context.body, context.caller.user_id
        facts = accept_room(stay, await self._rooms.facts(stay.room_id))
        today = today_at(facts.time_zone)
        accept_stay(stay.check_in_date, stay.check_out_date, today)
        people = accept_people(stay.adults, stay.children or ())
        self._rollout.must_be_charged_right(facts.currency)
        async with self._database.reading() as connection, snapshot(connection):
            room = await room_for_sale(connection, stay.room_id, stay.check_in_date, stay.check_out_date)
            discount = await quoted_discount(connection, stay, user_id)
        found = _StayPrices(stay, people, facts, room, today=today, discount=discount).offers()
        return json_response(200, await self._quote_out(stay, found, facts, user_id))

    async def _quote_out(
        self, stay: QuoteRequest, found: Sequence[PricedStay], facts: RoomFacts, user_id: int
    ) -> QuoteOut:
        good_until = self._tokens.good_until()
        return QuoteOut(
            hotel_id=stay.hotel_id,
            room_id=stay.room_id,
            check_in_date=stay.check_in_date,
            check_out_date=stay.check_out_date,
            rooms_count=stay.rooms_count,
            currency=found[0].currency,
            good_until=good_until,
            **({"paid_to": self._merchant_name} if self._merchant_name else {}),
            **({"required_terms": self._required_terms} if self._required_terms else {}),
            offers=[await self._offer_out(stay, priced, facts, user_id, good_until) for priced in found],
        )

    async def _offer_out(
        self, stay: QuoteRequest, priced: PricedStay, facts: RoomFacts, user_id: int, good_until: datetime
    ) -> QuotedOffer:
        assert priced.sale is not None
        quote = Quote(
            user_id=user_id,
            hotel_id=stay.hotel_id,
            room_id=stay.room_id,
            check_in=stay.check_in_date,
            check_out=stay.check_out_date,
            rooms_count=stay.rooms_count,
            stay_times=facts.stay_times,
            quoted=Quoted(
                good_until=good_until,
                terms=priced.terms,
                sale=priced.sale,
                currency=priced.currency,
                amount_minor=priced.amount_minor,
                night_amounts_minor=priced.night_amounts_minor,
            ),
        )
        offer = offer_out(priced, check_in=stay.check_in_date, stay_times=facts.stay_times, now=datetime.now(UTC))
        return QuotedOffer(
            **{name: getattr(offer, name) for name in offer.model_fields_set},
            token=await self._tokens.issue(quote),
            **approximation(priced, stay.currency, self._exchange_rates),
        )


class _StayPrices:
    """The prices of one stay by the plans of its room, as the room's worker would decide now."""

    def __init__(
        self,
        stay: QuoteRequest,
        people: Party | None,
        facts: RoomFacts,
        room: RoomForSale,
        *,
        today: date,
        discount: Discount | None,
    ) -> None:
        self._stay = stay
        self._people = people
        self._facts = facts
        self._nights = room.nights
        self._terms = room.terms or standard_terms(facts.capacity)
        self._today = today
        self._discount = discount

    def offers(self) -> list[PricedStay]:
        """Return the price by each plan that can be sold, or by the plan that is named.

        Raises:
            Problem: 409 if there is none, with the reason of the named or the first plan.
        """
        if len(self._nights) < (self._stay.check_out_date - self._stay.check_in_date).days:
            raise refusal(Rejection.NIGHT_NOT_OPEN)
        discount = self._discount
        if discount is not None and discount.currency not in (None, self._nights[0].currency):
            raise refusal(Rejection.CODE_NOT_VALID)
        plans = self._terms.plans
        if self._stay.plan_id is not None:
            plans = tuple(plan for plan in plans if plan.id == self._stay.plan_id)
            if not plans:
                raise refusal(Rejection.NO_SUCH_PLAN)
        results = [self._result(plan) for plan in plans]
        found = [result for result in results if isinstance(result, PricedStay)]
        if not found:
            assert isinstance(results[0], Rejection)
            raise rule_refusal(results[0], plans[0], self._stay.check_in_date, self._nights[0].currency)
        return found

    def _result(self, plan: RatePlan) -> PricedStay | Rejection:
        """Return the price by a plan, or the first reason, in the order of `Rejection`, why the plan cannot be sold."""
        stay, people = self._stay, self._people
        reason = None if people is None else party_rejection(self._terms, people, stay.rooms_count)
        if reason is None and any(night.closed for night in self._nights):
            reason = Rejection.NIGHT_CLOSED
        reason = reason or rules_rejection(plan, stay.check_in_date, stay.check_out_date, self._today)
        if reason is None and any(night.free_count < stay.rooms_count for night in self._nights):
            reason = Rejection.SOLD_OUT
        if reason is not None:
            return reason
        priced = price_stay(
            self._terms,
            plan,
            people,
            [night.price_minor for night in self._nights],
            check_in=stay.check_in_date,
            check_in_time=self._facts.check_in_time,
            rooms_count=stay.rooms_count,
            currency=self._nights[0].currency,
            discount=self._discount,
        )
        return priced if can_be_paid(priced, in_trip=stay.in_trip) else Rejection.NOT_CHARGEABLE
