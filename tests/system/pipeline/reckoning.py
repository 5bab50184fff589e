"""Invariants of log, ledger and money after a load, checked by hand: SQL and a consumer of its own.

It shares nothing with the workers: names of topics and tables, and the shape of messages, are written out here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import psycopg

from tests.system.pipeline import log
from tests.system.pipeline.log import Entry

COMMANDS: Final = "booking.commands"
EVENTS: Final = "booking.events"
DEAD_LETTERS: Final = "dead.letters"
#: The events that answer a request for a stay or a trip, once.
DECISIONS: Final = frozenset(
    {"booking.reserved.v1", "booking.rejected.v1", "booking.trip_reserved.v1", "booking.trip_rejected.v1"}
)
#: While a booking is in one of these it keeps rooms from others, and will end.
HOLDING: Final = ("RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING")

_MISCOUNTED: Final = """
    with taken as (
        select b.room_id, d::date as night,
               sum(b.rooms_count) filter (where b.status <> all(%s)) as booked,
               sum(b.rooms_count) filter (where b.status = any(%s)) as reserved
        from booking b, generate_series(b.check_in, b.check_out - 1, interval '1 day') d
        where b.status in ('CONFIRMED', 'CHECKED_IN') or b.status = any(%s)
           -- The nights before the first that was freed stay booked.
           or b.status in ('CANCELLED', 'CHECKED_OUT', 'NO_SHOW') and d < b.freed_from
           or b.status = 'CHECKED_OUT' and b.freed_from is null
        group by 1, 2
    )
    select i.room_id, i.date, i.booked_count, coalesce(t.booked, 0), i.reserved_count, coalesce(t.reserved, 0)
    from inventory i left join taken t on t.room_id = i.room_id and t.night = i.date
    where i.booked_count <> coalesce(t.booked, 0) or i.reserved_count <> coalesce(t.reserved, 0)
"""

_OVERSOLD: Final = """
    select b.room_id, d::date, sum(b.rooms_count), max(i.total_count + i.allowance_count - i.blocked_count)
    from booking b cross join generate_series(b.check_in, b.check_out - 1, interval '1 day') d
    left join inventory i on i.room_id = b.room_id and i.date = d::date
    where b.status in ('CONFIRMED', 'CHECKED_IN', 'CHECKED_OUT', 'NO_SHOW') and d < coalesce(b.freed_from, b.check_out)
       or b.status = any(%s)
    group by 1, 2 having sum(b.rooms_count) > coalesce(max(i.total_count + i.allowance_count - i.blocked_count), 0)
"""


async def behind(kafka_url: str, database_url: str, consumer: str, topics: Iterable[str]) -> list[str]:
    """Return what a consumer has still to do, in words; nothing when it has caught up with the log."""
    ends = {partition: end for partition, end in (await log.ends(kafka_url, topics)).items() if end}
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await connection.execute(
            "select topic, partition, applied, published from log_cursor where consumer = %s", (consumer,)
        )
        cursors = {(topic, partition): (applied, published) async for topic, partition, applied, published in rows}
        left = await connection.execute(
            "select o.partition, count(*) from outbox o"
            " join log_cursor c using (consumer, topic, partition, generation)"
            " where o.consumer = %s and o.last_offset > c.published group by 1",
            (consumer,),
        )
        unpublished = [
            f"{consumer}: {count} outbox rows of partition {number} unpublished" async for number, count in left
        ]
    return unpublished + [
        f"{consumer}: {topic}[{number}] applied {cursors.get((topic, number), (None,))[0]} of {end - 1}"
        for (topic, number), end in ends.items()
        if cursors.get((topic, number), (-1, -1))[0] < end - 1
    ]


async def miscounted(database_url: str) -> list[str]:
    """Return every room-date whose counters are not the sum over its bookings."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await connection.execute(_MISCOUNTED, [list(HOLDING)] * 3)
        return [
            f"room {room} on {night}: booked {booked} (bookings sum to {really_booked}),"
            f" reserved {reserved} (bookings sum to {really_reserved})"
            async for room, night, booked, really_booked, reserved, really_reserved in rows
        ]


async def oversold(database_url: str) -> list[str]:
    """Return every room-date of which more is taken than there is, counted from the bookings alone."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await connection.execute(_OVERSOLD, (list(HOLDING),))
        return [f"room {room} on {night}: {taken} of {total}" async for room, night, taken, total in rows]


async def unfinished(database_url: str) -> list[str]:
    """Return the unfinished work in the ledger: holds that have not ended, and calls to Stripe that are due."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        unended = [*HOLDING, "RESERVING"]
        holds = await connection.execute("select count(*) from booking where status = any(%s)", (unended,))
        changes = await connection.execute("select count(*) from booking where pending_change is not null")
        sessions = await connection.execute("select count(*) from checkout_session where next_attempt_at is not null")
        refunds = await connection.execute("select count(*) from refund where next_attempt_at is not null")
        counts = {"holds": holds, "changes": changes, "sessions": sessions, "refunds": refunds}
        return [f"{count} {what}" for what, rows in counts.items() for (count,) in await rows.fetchall() if count]


async def unpaid_for(database_url: str, payments: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the bookings whose net money at Stripe is not their amount if they are sold, or what is kept of it.

    That of a trip is the sum of its legs' amounts, and nothing is paid for a leg.
    """
    net: Counter[str] = Counter()
    for payment in payments:
        net[payment["metadata"].get("booking_id", "?")] += payment["captured_minor"] - payment["refunded_minor"]
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await connection.execute(
            "select coalesce(trip_id, id)::text, terms, status, amount_minor, (policy ->> 'kept_minor')::bigint"
            " from booking where legs is null"
        )
        sold = {"CONFIRMED", "CHECKED_IN", "CHECKED_OUT", "NO_SHOW"}
        due: Counter[str] = Counter()
        async for id, terms, status, amount, kept in rows:
            if terms == "prepaid":
                due[id] += kept if kept is not None else amount if status in sold else 0
    return [f"{id}: {net[id]} at Stripe, {due[id]} due" for id in net.keys() | due.keys() if net[id] != due[id]]


def torn_trips(published: Mapping[int, Sequence[Entry]], statuses: Mapping[str, str]) -> list[str]:
    """Return the trips of which some legs were bought and others not, by the events and the statuses of bookings."""
    legs: dict[str, list[str]] = {}
    confirmed = set()
    for event in (event for events in published.values() for event in events):
        if event.type == "booking.trip_opened.v1":
            legs[event.body["booking_id"]] = [leg["booking_id"] for leg in event.body["legs"]]
        elif event.type == "booking.confirmed.v1":
            confirmed.add(event.body["booking_id"])
    torn = []
    for trip, ids in legs.items():
        bought = [id for id in ids if id in confirmed]
        if bought != (ids if trip in confirmed else []):
            torn.append(f"trip {trip}: {statuses.get(trip)}, and {len(bought)} of its {len(ids)} legs were bought")
        held = [id for id in ids if statuses.get(id) in HOLDING]
        if held and statuses.get(trip) not in HOLDING:
            torn.append(f"trip {trip}: {statuses.get(trip)}, and {len(held)} of its {len(ids)} legs are held")
    return torn


def torn_moves(published: Mapping[int, Sequence[Entry]], statuses: Mapping[str, str]) -> list[str]:
    """Return the moves to another room type of which a half took place: the stay is in both rooms, or in neither."""
    moves: dict[str, str] = {}
    moved, ended, confirmed = set(), set(), set()
    for event in (event for events in published.values() for event in events):
        match event.type:
            case "booking.change_opened.v1":
                moves[event.body["change_id"]] = event.body["booking_id"]
            case "booking.changed.v1":
                moved.add(event.body["change_id"])
            case "booking.change_ended.v1":
                ended.add(event.body["change_id"])
            case "booking.confirmed.v1":
                confirmed.add(event.body["booking_id"])
    torn = []
    for leg, booking in moves.items():
        found = f"booking {booking}: {statuses.get(booking)}, and its leg {leg} is {statuses.get(leg)}"
        if leg in moved and leg in ended:
            torn.append(f"{found}: the move took place and ended")
        elif (leg in moved) is not (leg in confirmed):
            torn.append(f"{found}: {'the stay moved' if leg in moved else 'the stay did not move'}")
        elif leg in ended and statuses.get(leg) in HOLDING:
            torn.append(f"{found}: the move ended")
    return torn


def overused_codes(published: Mapping[int, Sequence[Entry]]) -> list[str]:
    """Return each use of a promo code beyond those that its terms allowed when it was granted."""
    limits: dict[int, int | None] = {}
    users: defaultdict[int, set[str]] = defaultdict(set)
    overused = []
    for event in (event for events in published.values() for event in events):
        if not event.type.startswith("code."):
            continue
        code = event.body["code_id"]
        match event.type:
            case "code.changed.v1":
                limits[code] = event.body["terms"].get("max_uses")
            case "code.claimed.v1":
                users[code].add(event.body["booking_id"])
                limit = limits[code]
                if limit is not None and len(users[code]) > limit:
                    overused.append(f"code {code}: {event.body['booking_id']} is use {len(users[code])} of {limit}")
            case "code.returned.v1":
                users[code].discard(event.body["booking_id"])
    return overused


def longest_wait_seconds(commands: Iterable[Entry], published: Mapping[int, Sequence[Entry]]) -> float:
    """Return the longest time between a request for a stay and its decision, both as the broker's clock has them."""
    asked: dict[str, int] = {}
    for command in commands:
        if command.type == "booking.reserve.v1":
            asked.setdefault(command.id, command.timestamp_ms)
    waits = [
        event.timestamp_ms - asked[event.causation]
        for events in published.values()
        for event in events
        if event.type in DECISIONS and event.causation in asked
    ]
    return max(waits, default=0) / 1000


async def statuses(database_url: str) -> dict[str, str]:
    """Return the status of every booking in the ledger, by id."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await connection.execute("select id::text, status from booking")
        return {id: status async for id, status in rows}


def first_publications(events: Sequence[Entry]) -> tuple[dict[int, list[Entry]], int, list[str]]:
    """Return each partition's events without doubles, the number of doubles, and the faults found in them."""
    published: dict[int, list[Entry]] = defaultdict(list)
    doubles, wrong = 0, []
    for event in events:
        before = published[event.partition]
        if event.sequence == len(before) + 1:
            before.append(event)
        elif event.sequence <= len(before):
            doubles += 1
            first = before[event.sequence - 1]
            if (first.id, first.value, first.headers) != (event.id, event.value, event.headers):
                wrong.append(f"partition {event.partition}: sequence {event.sequence} is {first.id} and {event.id}")
        else:
            wrong.append(
                f"partition {event.partition}: sequence {event.sequence} after {len(before)} at {event.offset}"
            )
    return dict(published), doubles, wrong


def without_dead_letters(records: Sequence[Entry], dead_letters: Sequence[Entry]) -> list[Entry]:
    """Return the records of `booking.commands` that are not kept as dead letters with a reason."""
    dead = {
        (letter.headers["dl_partition"], letter.headers["dl_offset"])
        for letter in dead_letters
        if letter.headers.get("dl_topic") == COMMANDS.encode() and letter.headers.get("dl_reason")
    }
    return [record for record in records if (b"%d" % record.partition, b"%d" % record.offset) not in dead]


def decided_once(commands: Sequence[Entry], published: Mapping[int, Sequence[Entry]]) -> list[str]:
    """Return what is wrong with the answers: each command has one, its repetitions change nothing, all in log order."""
    wrong = []
    stored = Counter(command.id for command in commands if command.id)
    answers_of: dict[str, list[Entry]] = defaultdict(list)
    for events in published.values():
        for event in events:
            answers_of[event.causation].append(event)
    wrong += [
        f"{command.type} {command.id} at {command.partition}@{command.offset} was never answered"
        for command in commands
        if command.id and not answers_of[command.id] and command.type != "booking.expire_hold.v1"
    ]
    for id, answers in answers_of.items():
        if id not in stored:
            wrong.append(f"{answers[0].type} {answers[0].id} answers a command that is not on the log")
        effects = Counter(answer.id for answer in answers)
        # A command that is on the log twice may be refused twice, or change the guests twice.
        wrong += [f"{effect} happened {count} times" for effect, count in effects.items() if count > stored[id]]
    for partition, events in published.items():
        if not _in_order([c.id for c in commands if c.partition == partition], [e.causation for e in events]):
            wrong.append(f"partition {partition}: events are not in the order of their commands")
    return wrong


def _in_order(commands: Iterable[str], causes: Sequence[str]) -> bool:
    """Return whether the causes appear among the commands in this order; a command may have several events or none."""
    left = iter(commands)
    last = None
    for cause in causes:
        if cause != last and cause not in left:  # `in` moves the iterator on to the command.
            return False
        last = cause
    return True


def sold_again(published: Mapping[int, Sequence[Entry]]) -> list[str]:
    """Return the bookings that were decided more than once."""
    decisions = Counter(
        event.body["booking_id"] for events in published.values() for event in events if event.type in DECISIONS
    )
    return [f"{booking} was decided {count} times" for booking, count in decisions.items() if count > 1]


def last_status(published: Mapping[int, Sequence[Entry]]) -> dict[str, str]:
    """Return the status that each booking has by its events."""
    moves = {
        "booking.reserved.v1": "RESERVED",
        "booking.rejected.v1": "REJECTED",
        "booking.trip_opened.v1": "RESERVING",
        "booking.trip_reserved.v1": "RESERVED",
        "booking.trip_rejected.v1": "REJECTED",
        "booking.guests_added.v1": "GUESTS_ADDED",
        "booking.payment_requested.v1": "PAYMENTS_PENDING",
        "booking.confirmed.v1": "CONFIRMED",
        "booking.cancelled.v1": "CANCELLED",
        "booking.expired.v1": "EXPIRED",
        "booking.checked_in.v1": "CHECKED_IN",
        "booking.checked_out.v1": "CHECKED_OUT",
        "booking.no_show.v1": "NO_SHOW",
    }
    found: dict[str, str] = {}
    for events in published.values():
        for event in events:
            booking = str(event.body.get("booking_id"))
            # A payment is also requested for what the change of a confirmed stay costs more.
            of_change = event.type == "booking.payment_requested.v1" and found[booking] == "CONFIRMED"
            if event.type in moves and not of_change:
                found[booking] = moves[event.type]
    return found
