"""Messages of the scenarios about promo codes; see `words` and `words_of_sale`.

The code SPRING takes 20 % off the nights of the room; it has two uses, of which an account can have one.
"""

from datetime import timedelta
from uuid import UUID

from msgspec.structs import replace

from tests.support.scenario import NOON
from tests.workers.decisions.words import BEN_RESERVES, HOTEL, RESERVE, ROOM, but, march
from tests.workers.decisions.words_of_sale import ON_TERMS, SALE
from topics.messages.commands import ClaimCode, ReturnCode, SetCode
from topics.messages.events import CodeChanged, CodeClaimed, CodeRejected, CodeReturned, CodeUnchanged
from topics.messages.sale import CancellationStep, CodeTerms, Discount
from topics.messages.values import CodeRefusal, Rejection

SPRING, AUTUMN = 31, 32
CARLAS = UUID(int=3)
CARLA = 13
CODE_TERMS = CodeTerms(
    version=1,
    code="SPRING",
    percent_milli=20_000,
    valid_from=NOON - timedelta(days=1),
    valid_until=NOON + timedelta(days=1),
    first_night=march(10),
    end_night=march(12),
    room_ids=(ROOM,),
    max_uses=2,
    max_account_uses=1,
)
DISCOUNT = Discount(code_id=SPRING, code="SPRING", percent_milli=20_000, first_night=march(10), end_night=march(12))

SET_CODE = SetCode(code_id=SPRING, hotel_id=HOTEL, terms=CODE_TERMS)
CLAIM = ClaimCode(code_id=SPRING, reserve=RESERVE)
BEN_CLAIMS = but(CLAIM, reserve=BEN_RESERVES)
CARLA_CLAIMS = but(CLAIM, reserve=but(RESERVE, booking_id=CARLAS, user_id=CARLA))
GIVE_BACK = ReturnCode(code_id=SPRING, booking_id=RESERVE.booking_id)

CODE_SET = CodeChanged(code_id=SPRING, hotel_id=HOTEL, terms=CODE_TERMS)
GIVEN_BACK = CodeReturned(code_id=SPRING, booking_id=RESERVE.booking_id)

#: The stay of Ada with the discount: 20 % less for the nights, and so for the VAT in them; the city tax stays.
DISCOUNTED = but(
    ON_TERMS,
    amount_minor=160_00,
    night_amounts_minor=(80_00, 80_00),
    sale=replace(
        SALE,
        lines=(replace(SALE.lines[0], amount_minor=160_00), replace(SALE.lines[1], amount_minor=10_47), SALE.lines[2]),
        steps=(*SALE.steps[:2], CancellationStep(kept_minor=80_00)),
        no_show_kept_minor=80_00,
        discount=DISCOUNT,
        discount_minor=40_00,
    ),
)


def claimed(claim: ClaimCode, discount: Discount = DISCOUNT) -> CodeClaimed:
    """Return the event that grants a use."""
    asked = claim.asked
    return CodeClaimed(
        code_id=claim.code_id,
        booking_id=asked.booking_id,
        user_id=asked.user_id,
        discount=discount,
        reserve=claim.reserve,
        trip=claim.trip,
    )


def code_rejected(claim: ClaimCode, reason: Rejection) -> CodeRejected:
    """Return the event that refuses a use."""
    return CodeRejected(
        code_id=claim.code_id,
        booking_id=claim.asked.booking_id,
        reason=reason,
        reserve=claim.reserve,
        trip=claim.trip,
    )


def code_unchanged(command: SetCode | ClaimCode | ReturnCode, reason: CodeRefusal | None = None) -> CodeUnchanged:
    """Return the answer to a command that changes nothing."""
    return CodeUnchanged(code_id=command.code_id, command=command.message_type, reason=reason)
