"""A booking's history as a page for people, for a terminal of any width."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from textwrap import fill
from typing import Final

from rich.console import Console

from operators.cli.console import counted
from operators.cli.tables import NOT_KNOWN, Field, Row, fitted
from operators.explain import ANSWERS, Awaited, BookingHistory, CodeUse, Document, Kind, Step, StripeObject
from pricing.currencies import decimal
from topics.times import to_the_second

_STYLES: Final = {Kind.COMMAND: "cyan", Kind.EVENT: "green", Kind.WEBHOOK: "magenta", Kind.DEAD_LETTER: "red"}
#: In a file or a pipe no line is wrapped.
_ENDLESS: Final = 10_000
_STEP: Final = (
    Field(name="log time (UTC)"),
    Field(name="after", right=True),
    Field(name=""),
    Field(name="what", yields=1),
    Field(name="place", yields=2),
    Field(name="details", yields=3, prose=True),
)
_AT_STRIPE: Final = (
    Field(name="at Stripe"),
    Field(name="status"),
    Field(name="id", yields=1),
    Field(name="for", yields=2),
    Field(name="made", yields=3),
    Field(name="changed", yields=4),
    Field(name="due", yields=5),
    Field(name="failures", yields=6),
)


_DOCUMENTS: Final = (
    Field(name="document"),
    Field(name="number", right=True),
    Field(name="amount", right=True),
    Field(name="issued"),
    Field(name="reason", yields=1),
    Field(name="id", yields=2),
    Field(name="corrects", yields=3),
)


def print_history(history: BookingHistory, out: Console, err: Console, *, everything: bool = False) -> None:
    """Print the page on `out`, and notes about sources that could not be read on `err`.

    A record that was sent again and changed nothing is shown with the record that it repeats; with `everything` it has
    a row of its own.
    """
    page = _Page(out)
    out.print(f"[bold]Booking {history.booking_id}  {history.status}[/]")
    page.paragraph(_stay(history))
    page.paragraph(_request(history))
    for use in history.code_uses:
        page.paragraph(_code_use(use))
    page.table(_STEP, _steps(history.steps, everything=everything))
    if history.stripe:
        page.table(_AT_STRIPE, list(map(_at_stripe, history.stripe)))
    if history.documents:
        page.table(_DOCUMENTS, list(map(_document, history.documents)))
    out.print("[bold]Awaited now[/]")
    for each in map(_awaited, history.awaited):
        page.paragraph(each, indent="  ")
    if not history.awaited:
        page.paragraph("nothing: final", indent="  ")
    for note in history.notes:
        err.print(f"Note: {note}.", markup=False)


class _Page:
    """A page as wide as its terminal, on which no word is broken."""

    def __init__(self, out: Console) -> None:
        if not out.is_terminal:
            out.width = _ENDLESS
        self._out = out

    def paragraph(self, text: str, *, indent: str = "") -> None:
        lines = fill(
            text,
            self._out.width,
            initial_indent=indent,
            subsequent_indent=indent + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        self._out.print(lines, markup=False, soft_wrap=True)

    def table(self, fields: Sequence[Field], rows: Sequence[Row]) -> None:
        self._out.print(fitted(fields, rows, self._out.width))


def _stay(history: BookingHistory) -> str:
    stay = history.stay
    if stay is None:
        return "accepted, and not in the ledger yet"
    what = f"a trip of {counted(len(stay.legs), 'leg')}" if stay.legs else counted(stay.rooms_count, "room")
    # A trip has no price until all its legs are held.
    price = f"{decimal(stay.amount_minor, stay.currency)} {stay.currency}" if stay.currency else None
    parts = (
        f"hotel {stay.hotel_id}, room {stay.room_id}, {stay.check_in} to {stay.check_out}, {what}",
        price,
        stay.reason,
        None if stay.trip_id is None else f"a leg of trip {stay.trip_id}",
        *(f"leg {leg.booking_id} in room {leg.room_id} {leg.state}" for leg in stay.legs),
    )
    return ", ".join(filter(None, parts))


def _request(history: BookingHistory) -> str:
    request = history.request
    fields = {"user": request.user_id, "from": request.source, "request": request.correlation, "trace": request.trace}
    return ", ".join(f"{name} {value}" for name, value in fields.items() if value is not None)


def _steps(steps: Sequence[Step], *, everything: bool) -> list[Row]:
    shown = list(steps) if everything else [step for step in steps if not _only_repeats(step, steps)]
    before = [None, *shown]
    return [
        _step(step, earlier, _again(step, steps, everything=everything))
        for step, earlier in zip(shown, before, strict=False)
    ]


def _step(step: Step, before: Step | None, again: str) -> Row:
    # A dead letter's name is a whole sentence.
    what, about = (NOT_KNOWN, step.what) if step.kind is Kind.DEAD_LETTER else (step.what, step.details or step.id)
    details = "; ".join(filter(None, (about, _caused_by(step), again))) or NOT_KNOWN
    return Row(
        cells=(_time(step.at), _after(step, before), step.kind, what, _place(step), details),
        style=_STYLES.get(step.kind, ""),
    )


def _caused_by(step: Step) -> str:
    """Name the person who sent a command, and their request; an event has those of its command."""
    if step.kind is not Kind.COMMAND or step.actor is None:
        return ""
    return f"by {step.actor}" if step.request_id is None else f"by {step.actor}, request {step.request_id}"


def _only_repeats(step: Step, steps: Sequence[Step]) -> bool:
    """Return whether a step only repeats another step that is shown."""
    if not step.sent_again or (step.kind is Kind.EVENT and step.what not in ANSWERS):
        return False
    of = step.cause if step.kind is Kind.EVENT else step.id
    return any(each.id == of and not each.sent_again for each in steps)


def _again(step: Step, steps: Sequence[Step], *, everything: bool) -> str:
    """Return how often a record was sent again and with which effect."""
    if everything or step.kind is Kind.EVENT or step.id is None:
        return f"sent again{_by_operators([step])}" * (step.sent_again and step.kind is not Kind.EVENT)
    repeats = [each for each in steps if each.sent_again and (each.kind, each.id) == (step.kind, step.id)]
    answers = [each for each in steps if each.sent_again and each.kind is Kind.EVENT and each.cause == step.id]
    if not (repeats or answers):
        return ""
    last = max(repeats or answers, key=lambda each: each.at)
    often = max(len(repeats), len(answers) if not repeats else 0)
    times = "once" if often == 1 else f"{often} times"
    came = _came_of_it(step, repeats, answers)
    return f"sent again {times}{_by_operators(repeats)}{came}; last {_time(last.at)} {_place(last)}"


def _by_operators(repeats: Sequence[Step]) -> str:
    """Return which operators sent the repeats, by which command, and when last."""
    sendings: dict[tuple[str, str], list[datetime]] = {}
    for sender in (each.sent_by for each in repeats if each.sent_by is not None):
        sendings.setdefault((sender.who, sender.action), []).append(sender.at)
    return "".join(
        f"{', ' if len(repeats) > 1 else ' '}{_some(len(times), len(repeats))}by {who} ({action} {_time(max(times))})"
        for (who, action), times in sendings.items()
    )


def _some(count: int, of: int) -> str:
    return "" if count == of else f"{count} of them "


def _came_of_it(step: Step, repeats: Sequence[Step], answers: Sequence[Step]) -> str:
    if step.kind is Kind.WEBHOOK:
        # A webhook leads to commands, which have ids of their own.
        return ""
    if changes := [each.what for each in answers if each.what not in ANSWERS]:
        return f", which led to {', '.join(dict.fromkeys(changes))}"
    waiting = len(repeats) - len(answers)
    return f", {waiting} of them not decided yet" if waiting > 0 else ", nothing changed"


def _at_stripe(each: StripeObject) -> Row:
    about = each.payment_intent or (f"attempt {each.attempt}" if each.attempt else NOT_KNOWN)
    moments = (each.created_at, each.updated_at, each.owed_at)
    times = (NOT_KNOWN if at is None else _time(at) for at in moments)
    return Row(cells=(each.kind, each.status, each.id or "none yet", about, *times, str(each.failures)))


def _document(each: Document) -> Row:
    amount = f"{decimal(each.amount_minor, each.currency)} {each.currency}"
    corrects = NOT_KNOWN if each.corrects_id is None else str(each.corrects_id)
    reason, kind = each.reason.replace("_", " "), each.kind.replace("_", " ")
    return Row(cells=(kind, str(each.number), amount, _time(each.issued_at), reason, str(each.id), corrects))


def _code_use(use: CodeUse) -> str:
    return f"promo code {use.code} (id {use.code_id}): {'its use was given back' if use.returned else 'used'}"


def _awaited(each: Awaited) -> str:
    return ", ".join(_parts(each))


def _parts(each: Awaited) -> Iterator[str]:
    yield f"{each.who}: {each.what}"
    if each.behind is not None:
        yield f"{counted(each.behind, 'record')} behind"
    if each.since is not None:
        yield f"since {to_the_second(each.since)}"
    if each.until is not None:
        yield f"until {to_the_second(each.until)}"


def _place(step: Step) -> str:
    if step.place is None:
        return NOT_KNOWN if step.kind is Kind.REQUEST else "not on the log"
    return str(step.place)


def _after(step: Step, before: Step | None) -> str:
    if before is None:
        return ""
    seconds = (step.at - before.at).total_seconds()
    return f"+{seconds * 1000:.0f} ms" if seconds < 1 else f"+{seconds:,.1f} s"


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"
