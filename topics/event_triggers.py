"""When each event is written, and in answer to which commands: for the documentation; the core's tests check it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from topics.messages.commands import (
    COMMANDS,
    AddGuests,
    BlockNights,
    BookingCommand,
    CancelBooking,
    ChangeGuests,
    ChangeInventory,
    ChangeStay,
    CheckIn,
    CheckOut,
    ClaimCode,
    ClosePayment,
    CloseRefund,
    Command,
    ConfirmLeg,
    ConfirmPayment,
    DeclinePayment,
    FailRefund,
    IssueDocument,
    MarkNoShow,
    OpenInventory,
    RecordDispute,
    RecordLeg,
    RecordLegEnd,
    RecordRefund,
    RecordSession,
    ReleaseBlock,
    ReleaseLeg,
    RequestPayment,
    ReserveStay,
    ReserveTrip,
    ReturnCode,
    SetCode,
    SetSaleTerms,
)
from topics.messages.events import (
    BlockReleased,
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    BookingRefunded,
    BookingRejected,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    ChangeOpened,
    ChangeRejected,
    CheckoutOpened,
    CodeChanged,
    CodeClaimed,
    CodeRejected,
    CodeReturned,
    CodeUnchanged,
    CommandRefused,
    CommandRepeated,
    DisputeClosed,
    DisputeOpened,
    DocumentIssued,
    DocumentNotIssued,
    Event,
    GuestsAdded,
    GuestsChanged,
    GuestsCheckedIn,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    InventoryChanged,
    InventoryOpened,
    InventoryUnchanged,
    LegEnded,
    LegHeld,
    NightsBlocked,
    PaymentDeclined,
    PaymentRequested,
    RefundClosed,
    RefundFailed,
    RefundRequested,
    SaleTermsChanged,
    StayChanged,
    TripCancelRequested,
    TripOpened,
    TripRejected,
    TripReserved,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class EventTrigger:
    """When an event is written, as a sentence, and the commands that it may answer."""

    when: str
    after: tuple[type[Command], ...]


_ABOUT_BOOKINGS: Final = tuple(kind for kind in COMMANDS if issubclass(kind, BookingCommand))

EVENT_TRIGGERS: Final[Mapping[type[Event], EventTrigger]] = {
    InventoryOpened: EventTrigger(
        when="Nights are put on sale that were not before: a new room's, or one more day of the year to come. "
        "Each unbroken range of them is an event.",
        after=(OpenInventory,),
    ),
    InventoryChanged: EventTrigger(
        when="A manager changes price, surge, closing or total of nights, also when every one of them refuses.",
        after=(ChangeInventory,),
    ),
    InventoryUnchanged: EventTrigger(
        when="The command's effect exists already, or the command as a whole is refused.",
        after=(OpenInventory, ChangeInventory, SetSaleTerms, BlockNights, ReleaseBlock),
    ),
    SaleTermsChanged: EventTrigger(
        when="The hotel changes plans, taxes or policies of the room.", after=(SetSaleTerms,)
    ),
    NightsBlocked: EventTrigger(when="The hotel takes rooms off sale.", after=(BlockNights,)),
    BlockReleased: EventTrigger(when="The hotel puts the rooms of a block on sale again.", after=(ReleaseBlock,)),
    GuestsCheckedIn: EventTrigger(when="A manager records the arrival.", after=(CheckIn,)),
    GuestsCheckedOut: EventTrigger(when="A manager records the departure, early ones too.", after=(CheckOut,)),
    GuestsDidNotArrive: EventTrigger(when="A manager records that nobody arrived.", after=(MarkNoShow,)),
    BookingReserved: EventTrigger(
        when="Every night of the stay is on sale and has enough free rooms; from then on they are held.",
        after=(ReserveStay,),
    ),
    BookingRejected: EventTrigger(
        when="The stay is not available: a night is sold out, closed or not on sale, the account holds its share of it "
        "unpaid, the amount cannot be paid, or the request makes no sense.",
        after=(ReserveStay,),
    ),
    GuestsAdded: EventTrigger(
        when="The guests are named, or others in their place, before payment is asked for; or a leg gets the guests of "
        "its trip.",
        after=(AddGuests, ConfirmLeg),
    ),
    PaymentRequested: EventTrigger(
        when="The guest wants to pay, or a change that is held makes the stay dearer, and no Checkout Session is open "
        "or being opened.",
        after=(RequestPayment, ChangeStay, RecordLeg),
    ),
    CheckoutOpened: EventTrigger(when="Payments opened the Checkout Session at Stripe.", after=(RecordSession,)),
    BookingConfirmed: EventTrigger(
        when="The money arrived; or nothing is due before arrival, because the stay is free or paid at the hotel.",
        after=(ReserveStay, RequestPayment, ConfirmPayment, ConfirmLeg),
    ),
    PaymentDeclined: EventTrigger(
        when="A payment failed at Stripe, or no Checkout Session can be opened.", after=(DeclinePayment,)
    ),
    BookingCancelled: EventTrigger(
        when="Guest or hotel cancels, the Checkout Session was closed without a payment, or the whole payment was "
        "refunded by hand at a hotel that cancels then.",
        after=(ClosePayment, CancelBooking, RecordRefund, ReleaseLeg, RecordLegEnd),
    ),
    BookingExpired: EventTrigger(
        when="The hold's deadline has passed and a command about the booking is decided: the timer's `ExpireHold`, or "
        "any that comes sooner, whose own answer follows.",
        after=_ABOUT_BOOKINGS,
    ),
    RefundRequested: EventTrigger(
        when="A paid booking is cancelled or becomes cheaper, its guests leave early or do not arrive and the policy "
        "keeps less than all, money arrives too late, twice, or in the wrong amount, or a refund by hand of money that "
        "must go back fails.",
        after=(ConfirmPayment, CancelBooking, FailRefund, CheckOut, MarkNoShow, ChangeStay, RecordLeg, RecordLegEnd),
    ),
    BookingRefunded: EventTrigger(
        when="Stripe carried out a refund, which this product asked for or a person made at Stripe.",
        after=(RecordRefund,),
    ),
    GuestsChanged: EventTrigger(
        when="The guests of a confirmed booking are replaced, before check-in.", after=(ChangeGuests,)
    ),
    RefundFailed: EventTrigger(
        when="Stripe reports that a refund failed, also one that had succeeded.", after=(FailRefund,)
    ),
    RefundClosed: EventTrigger(
        when="An operator ends a refund that cannot be made through Stripe.", after=(CloseRefund,)
    ),
    DisputeOpened: EventTrigger(when="The cardholder disputes a payment at the bank.", after=(RecordDispute,)),
    DisputeClosed: EventTrigger(when="The bank has decided a dispute.", after=(RecordDispute,)),
    ChangeOpened: EventTrigger(
        when="The guest or a manager asks for another room type in place of that of a prepaid stay.",
        after=(ChangeStay,),
    ),
    ChangeHeld: EventTrigger(
        when="The guest or a manager asks for a change of a prepaid stay that makes it dearer, and its nights are "
        "free: they are held until the difference is paid.",
        after=(ChangeStay, RecordLeg),
    ),
    StayChanged: EventTrigger(
        when="A change that costs nothing more is decided, another room type holds the stay for no more than its "
        "price, or the difference of a dearer change is paid.",
        after=(ChangeStay, RecordLeg, ConfirmPayment),
    ),
    ChangeEnded: EventTrigger(
        when="A change that was held is not paid in time or is given up, another one replaces it, the guests arrive, "
        "or the booking is cancelled. One to another room type also ends if that room cannot hold the stay in time.",
        after=_ABOUT_BOOKINGS,
    ),
    ChangeRejected: EventTrigger(
        when="The other nights, rooms, people or room type of a change are not available, the rules of the plan "
        "exclude them, or the difference cannot be charged.",
        after=(ChangeStay, RecordLeg),
    ),
    CodeChanged: EventTrigger(when="The hotel makes a promo code or changes its terms.", after=(SetCode,)),
    CodeClaimed: EventTrigger(when="A guest books with a promo code, and a use of it is left.", after=(ClaimCode,)),
    CodeRejected: EventTrigger(
        when="A guest books with a promo code that is not valid for the stay, or of which no use is left.",
        after=(ClaimCode,),
    ),
    CodeReturned: EventTrigger(
        when="The booking that used a promo code was rejected, or ended unpaid, or another request had made it.",
        after=(ReturnCode,),
    ),
    CodeUnchanged: EventTrigger(
        when="The command about a promo code has had its effect already, or is refused as a whole.",
        after=(SetCode, ClaimCode, ReturnCode),
    ),
    DocumentIssued: EventTrigger(
        when="A stay is paid, changed, ended with costs, or refunded: the guest gets a document of the hotel.",
        after=(IssueDocument,),
    ),
    DocumentNotIssued: EventTrigger(
        when="The document was issued before, or nothing is left of the invoice to be credited.",
        after=(IssueDocument,),
    ),
    TripOpened: EventTrigger(
        when="A guest asks for a stay of several room types, all or nothing; its legs are reserved next.",
        after=(ReserveTrip,),
    ),
    LegHeld: EventTrigger(when="The room of a leg holds it.", after=(RecordLeg,)),
    TripReserved: EventTrigger(when="The rooms of all legs hold them.", after=(RecordLeg,)),
    TripRejected: EventTrigger(
        when="The room of a leg refuses it, or the trip makes no sense; the legs that are held are released next.",
        after=(ReserveTrip, RecordLeg),
    ),
    TripCancelRequested: EventTrigger(
        when="The guest or the hotel cancels a paid trip; its legs are cancelled next.", after=(CancelBooking,)
    ),
    LegEnded: EventTrigger(
        when="A leg of a paid trip was cancelled, its guests left early, or nobody arrived.", after=(RecordLegEnd,)
    ),
    CommandRefused: EventTrigger(
        when="The rules refuse a command about a booking, or there is no such booking.", after=_ABOUT_BOOKINGS
    ),
    CommandRepeated: EventTrigger(
        when="The command has had its effect already, mostly because it was sent a second time.", after=_ABOUT_BOOKINGS
    ),
}
