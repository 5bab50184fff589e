"""Records that were sent again are marked by their ids and positions; the page shows each once, at any width."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from typing import Final
from uuid import UUID

from rich.console import Console

from operators.cli.explain_page import print_history
from operators.explain import (
    Awaited,
    BookingHistory,
    CodeUse,
    Document,
    Kind,
    Request,
    Sender,
    Stay,
    Step,
    StripeObject,
)
from operators.explain.history import Leg
from operators.explain.steps import followed_from_repeats, sent_again
from topics.kafka.positions import LogPosition

T0: Final = datetime(2027, 3, 1, 12, tzinfo=UTC)
BOOKING: Final = UUID("019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d")
SESSION: Final = "cs_test_a1Jn3kLbQ0vRkGzYw8ZfHq2mX5tPpE7sUuCcVvBbNnMmAaSsDdFfGgHhJj"
TRACE: Final = "0af7651916cd43dd8448eb211c80319c"


class RecordedSteps:
    """Commands and the answers to them, in the order of the log."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._causes: dict[str, LogPosition] = {}

    def command(
        self, message_type: str, id: str, *events: str, second: int, sent_by: Sender | None = None
    ) -> "RecordedSteps":
        """Let a command be on the log and lead to these events."""
        at = T0 + timedelta(seconds=second)
        place = LogPosition("booking.commands", 11, 1_234_000 + len(self.steps))
        what = f"booking.{message_type}.v1"
        self.steps.append(
            Step(
                kind=Kind.COMMAND, at=at, what=what, id=id, place=place, sent_again=sent_by is not None, sent_by=sent_by
            )
        )
        for event in events:
            offset = len(self.steps)
            self._causes[f"{id}:{offset}"] = place
            self.steps.append(
                Step(
                    kind=Kind.EVENT,
                    at=at,
                    what=f"booking.{event}.v1",
                    id=f"{id}:{offset}",
                    place=LogPosition("booking.events", 11, 4_321_000 + offset),
                    sequence=offset,
                    cause=id,
                )
            )
        return self

    def again(self) -> list[str]:
        """Return the types of the records that were sent again, and of the events that followed from them."""
        return [step.what.split(".")[1] for step in self._marked() if step.sent_again]

    def _marked(self) -> list[Step]:
        commands = sent_again(step for step in self.steps if step.kind is Kind.COMMAND)
        events = followed_from_repeats(
            (step, self._causes.get(step.id or "")) for step in self.steps if step.kind is Kind.EVENT
        )
        # As the explanation does: the offsets of the two topics count the same steps here.
        return sorted([*commands, *events], key=lambda step: step.place.offset % 1_000 if step.place else 0)

    def history(self) -> BookingHistory:
        return BookingHistory(
            booking_id=BOOKING,
            status="PAYMENTS_PENDING",
            request=Request(
                made_at=T0, user_id=3, source="innkeeper/ingress", correlation=str(UUID(int=7)), trace=TRACE
            ),
            stay=Stay(
                hotel_id=1,
                room_id=7,
                check_in=date(2027, 3, 1),
                check_out=date(2027, 3, 3),
                rooms_count=1,
                amount_minor=25_800,
                currency="EUR",
                hold_expires_at=None,
                reason=None,
            ),
            steps=tuple(self._marked()),
            stripe=(),
            awaited=(Awaited(who="the reservations worker", what="to decide booking.cancel.v1", behind=1),),
            notes=(),
        )


def sender(who: str, second: int, action: str = "replay") -> Sender:
    """Return an operator whose replay began at this second."""
    return Sender(who=who, action=action, at=T0 + timedelta(seconds=second))


def page(history: BookingHistory, *, width: int = 200, everything: bool = False, is_terminal: bool = True) -> list[str]:
    """Return the lines that a terminal of this width shows, or that go into a pipe."""
    out = Console(
        file=StringIO(), width=width, force_terminal=is_terminal, color_system=None, highlight=False, soft_wrap=True
    )
    print_history(history, out, out, everything=everything)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().splitlines()


def test_a_command_and_its_answer_are_sent_again_when_the_log_had_the_id() -> None:
    recorded = (
        RecordedSteps()
        .command("reserve", "a", "reserved", second=0)
        .command("reserve", "a", "command_repeated", second=9)
    )

    assert recorded.again() == ["reserve", "command_repeated"]


def test_two_requests_for_the_same_thing_are_two_commands() -> None:
    recorded = (
        RecordedSteps()
        .command("cancel", "a", "cancelled", second=0)
        .command("cancel", "b", "command_repeated", second=0)
    )

    assert recorded.again() == []


def test_a_command_that_came_too_late_ends_the_hold_and_is_refused_in_one_decision() -> None:
    recorded = RecordedSteps().command("add_guests", "a", "expired", "command_refused", second=0)
    assert recorded.again() == []

    recorded.command("add_guests", "a", "command_refused", second=0)
    assert recorded.again() == ["add_guests", "command_refused"]


def test_a_request_that_is_repeated_after_the_hold_ends_it_itself_and_that_is_no_part_of_the_first_decision() -> None:
    recorded = RecordedSteps().command("add_guests", "a", "guests_added", second=0)
    recorded.command("add_guests", "a", "expired", "command_refused", second=900)

    assert recorded.again() == ["add_guests", "expired", "command_refused"]
    assert any("sent again once, which led to booking.expired.v1; last" in line for line in page(recorded.history()))


def test_a_hold_that_is_ended_again_was_ended_once() -> None:
    recorded = RecordedSteps().command("expire_hold", "a", "expired", second=0)
    recorded.command("expire_hold", "a", "command_repeated", second=0)

    assert recorded.again() == ["expire_hold", "command_repeated"]


def test_a_command_that_was_refused_then_and_has_its_effect_now_is_shown_with_its_events() -> None:
    recorded = (
        RecordedSteps()
        .command("add_guests", "a", "command_refused", second=0)
        .command("reserve", "b", "reserved", second=1)
    )
    recorded.command("add_guests", "a", "guests_added", second=2)

    assert recorded.again() == ["add_guests", "guests_added"]
    lines = page(recorded.history())
    assert [line for line in lines if "+1.0 s" in line and "booking.guests_added.v1" in line]
    assert [line for line in lines if "sent again once, which led to booking.guests_added.v1; last 2027-03-01" in line]


def test_a_command_that_was_replayed_again_and_again_is_one_row_unless_all_are_asked_for() -> None:
    recorded = RecordedSteps().command("reserve", "a", "reserved", second=0)
    for second in range(1, 41):
        recorded.command("reserve", "a", "command_repeated", second=second)
    history = recorded.history()

    short, whole = page(history), page(history, everything=True)

    last = "sent again 40 times, nothing changed; last 2027-03-01 12:00:40.000 booking.commands[11]@1234080"
    assert sum(last in line for line in short) == 1
    assert sum("command_repeated" in line for line in short) == 0
    assert sum("booking.reserve.v1" in line for line in short) == 1
    assert sum("command_repeated" in line for line in whole) == 40
    assert sum("sent again" in line for line in whole) == 40
    steps = history.as_json()["steps"]
    assert (len(steps), sum(step["sent_again"] for step in steps)) == (82, 80)


def test_the_operator_whose_replay_sent_it_again_is_named() -> None:
    recorded = RecordedSteps().command("reserve", "a", "reserved", second=0)
    recorded.command("reserve", "a", "command_repeated", second=10, sent_by=sender("grace", 9))
    recorded.command("reserve", "a", "command_repeated", second=20)
    recorded.command("reserve", "a", "command_repeated", second=30, sent_by=sender("ines", 30, "dead-letters replay"))

    history = recorded.history()

    assert [step.sent_by and (step.sent_by.who, step.sent_by.action) for step in history.steps if step.id == "a"] == [
        None,
        ("grace", "replay"),
        None,
        ("ines", "dead-letters replay"),
    ]
    expected = (
        "sent again 3 times, 1 of them by grace (replay 2027-03-01 12:00:09.000),"
        " 1 of them by ines (dead-letters replay 2027-03-01 12:00:30.000), nothing changed; last"
    )
    assert sum(expected in line for line in page(history, is_terminal=False)) == 1
    assert (
        sum("sent again by grace (replay 2027-03-01 12:00:09.000)" in line for line in page(history, everything=True))
        == 1
    )


def test_a_replay_of_a_record_that_the_log_does_not_have_any_more_is_sent_again_all_the_same() -> None:
    recorded = RecordedSteps().command("reserve", "a", "reserved", second=10, sent_by=sender("grace", 9))

    assert recorded.again() == ["reserve"]
    [line] = [line for line in page(recorded.history()) if "booking.reserve.v1" in line]
    assert "sent again once by grace (replay 2027-03-01 12:00:09.000)" in line


def test_two_records_of_one_moment_are_distinguished_by_their_positions() -> None:
    recorded = RecordedSteps().command("expire_hold", "a", "expired", second=0)
    recorded.command("expire_hold", "a", "expired", second=0)

    assert recorded.again() == ["expire_hold", "expired"]


def test_an_event_that_does_not_name_its_commands_position_is_not_marked() -> None:
    recorded = (
        RecordedSteps()
        .command("reserve", "a", "reserved", second=0)
        .command("reserve", "a", "command_repeated", second=1)
    )
    events = [step for step in recorded.steps if step.kind is Kind.EVENT]

    assert not any(step.sent_again for step in followed_from_repeats((event, None) for event in events))


def test_the_person_who_sent_a_command_is_shown_with_their_request() -> None:
    recorded = RecordedSteps().command("reserve", "a", "reserved", second=0)
    recorded.steps = [replace(step, actor="user/17", request_id="r-9") for step in recorded.steps]

    lines = page(recorded.history())

    assert [line for line in lines if "booking.reserve.v1" in line and "by user/17, request r-9" in line]
    assert not [line for line in lines if "booking.reserved.v1" in line and "user/17" in line]


def test_a_record_that_was_sent_again_and_is_not_decided_yet_is_not_shown_as_without_effect() -> None:
    recorded = RecordedSteps().command("reserve", "a", "reserved", second=0).command("reserve", "a", second=1)

    assert [line for line in page(recorded.history()) if "sent again once, 1 of them not decided yet; last" in line]


def test_on_a_narrow_terminal_no_type_id_or_place_is_broken() -> None:
    recorded = RecordedSteps().command("request_payment", "a", "payment_requested", second=0)
    recorded.command("record_session", "b", "checkout_opened", second=1)
    recorded.command("record_session", "b", "command_repeated", second=2)
    recorded.steps = [replace(step, details=f"terms=prepaid session_id={SESSION}") for step in recorded.steps]
    stripe = StripeObject(
        kind="Checkout Session",
        id=SESSION,
        status="open",
        attempt=1,
        payment_intent=None,
        created_at=T0,
        updated_at=T0,
        owed_at=None,
        failures=0,
    )
    history = replace(recorded.history(), stripe=(stripe,))

    lines = page(history, width=80)

    assert max(map(len, lines)) <= 80 + len("session_id=")
    for whole in (
        *(step.what for step in history.steps if step.what != "booking.command_repeated.v1"),
        *(str(step.place) for step in history.steps if step.what != "booking.command_repeated.v1"),
        *(SESSION, TRACE, str(BOOKING), str(UUID(int=7))),
    ):
        assert any(whole in line for line in lines), (whole, lines)
    [row] = [number for number, line in enumerate(lines) if "booking.request_payment.v1" in line]
    assert lines[row + 1].startswith("    place booking.commands[11]@1234000; details terms=prepaid")
    assert all("log time" not in line or "details" in line for line in page(history, width=240))


def test_in_a_pipe_a_step_is_a_line_however_long() -> None:
    recorded = RecordedSteps().command("reserve", "a", "reserved", second=0)
    recorded.steps = [
        replace(step, details=" ".join(f"night_{number}=free" for number in range(60))) for step in recorded.steps
    ]

    [line] = [line for line in page(recorded.history(), is_terminal=False) if "booking.reserved.v1" in line]

    assert "booking.events[11]@4321001" in line
    assert "night_59=free" in line


def test_a_trip_is_shown_with_its_legs_and_a_leg_with_its_trip() -> None:
    history = RecordedSteps().command("reserve_trip", "a", "trip_opened", second=0).history()
    assert history.stay is not None
    leg = UUID(int=8)
    trip = replace(
        history.stay, rooms_count=0, amount_minor=0, currency="", legs=(Leg(booking_id=leg, room_id=7, state="held"),)
    )

    shown = f"hotel 1, room 7, 2027-03-01 to 2027-03-03, a trip of 1 leg, leg {leg} in room 7 held"
    assert shown in page(replace(history, stay=trip))
    of_a_trip = page(replace(history, stay=replace(history.stay, trip_id=BOOKING)))
    assert f"hotel 1, room 7, 2027-03-01 to 2027-03-03, 1 room, 258.00 EUR, a leg of trip {BOOKING}" in of_a_trip


def test_documents_and_a_promo_code_that_was_given_back_are_shown() -> None:
    invoice = Document(
        id=UUID(int=9),
        kind="invoice",
        number=12,
        reason="stay",
        amount_minor=25_800,
        currency="EUR",
        corrects_id=None,
        issued_at=T0,
    )
    note = replace(invoice, id=UUID(int=10), kind="credit_note", reason="stay_changed", corrects_id=invoice.id)
    history = replace(
        RecordedSteps().history(),
        documents=(invoice, note),
        code_uses=(
            CodeUse(code_id=5, code="SPRING", returned=False),
            CodeUse(code_id=6, code="AUTUMN", returned=True),
        ),
    )
    lines = page(history)
    assert "promo code SPRING (id 5): used" in lines
    assert "promo code AUTUMN (id 6): its use was given back" in lines
    (first, second) = (line.split() for line in lines if " EUR " in line and "2027-03-01 12:00" in line)
    assert first[:4] == ["invoice", "12", "258.00", "EUR"]
    assert second[:5] == ["credit", "note", "12", "258.00", "EUR"]
    assert second[-1] == str(invoice.id)


def test_money_is_in_the_currencys_units_and_one_of_a_thing_is_one() -> None:
    lines = page(RecordedSteps().command("reserve", "a", "reserved", second=0).history())

    assert "hotel 1, room 7, 2027-03-01 to 2027-03-03, 1 room, 258.00 EUR" in lines
    assert "  the reservations worker: to decide booking.cancel.v1, 1 record behind" in lines
