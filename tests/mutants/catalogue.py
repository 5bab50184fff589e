"""The broken rules: a passage of the source, the passage that replaces it, and the tests that must notice.

Each breaks something that the product promises, or a step that keeps a promise. The core's rules have mutations of
their own (`tests/workers/decisions/test_brute_force.py`), which are quicker; these are of the source's text, in every
package.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One broken rule.

    `file` has the passage `right` exactly once. `tests` are the arguments of pytest, of which one test must fail.
    """

    name: str
    file: str
    right: str
    wrong: str
    tests: Sequence[str]


_RESERVING: Final = ("tests/workers/decisions/test_reserving.py",)
_PAYING: Final = ("tests/workers/decisions/test_paying.py",)
_SIMULATION: Final = ("tests/simulation/test_simulation.py",)
_MONEY: Final = ("tests/simulation/test_money.py",)
_BATCHES: Final = ("tests/workers/runtime/test_batch_processor.py", "tests/workers/runtime/test_unconfirmed_commits.py")

MUTANTS: Final[Sequence[Mutant]] = (
    Mutant(
        name="decides a reservation twice that was sent twice",
        file="workers/decisions/booking.py",
        right="if booking is not None:\n        return of_another_request(",
        wrong="if False:\n        return of_another_request(",
        tests=_RESERVING,
    ),
    Mutant(
        name="sells the check-out day as a night",
        file="topics/messages/values.py",
        right="range((check_out - check_in).days))",
        wrong="range((check_out - check_in).days + 1))",
        tests=_RESERVING,
    ),
    Mutant(
        name="sells one room more than there is",
        file="workers/decisions/booking.py",
        right="if night.free_count < command.rooms_count:",
        wrong="if night.free_count + 1 < command.rooms_count:",
        tests=_RESERVING,
    ),
    Mutant(
        name="keeps rooms reserved that are booked",
        file="workers/decisions/evolve_nights.py",
        right="reserved=-held, booked=rooms)",
        wrong="booked=rooms)",
        tests=_PAYING,
    ),
    Mutant(
        name="confirms a late payment without looking at the nights",
        file="workers/decisions/payment.py",
        right="        and _nights_are_free(state, booking)\n",
        wrong="",
        tests=_PAYING,
    ),
    Mutant(
        name="counts a payment twice that Stripe reports twice",
        file="workers/decisions/payment.py",
        right="if booking.payment(command.payment_intent) is not None:",
        wrong="if False:",
        tests=_PAYING,
    ),
    Mutant(
        name="ends a hold after its deadline, not at it",
        file="workers/decisions/booking.py",
        right="booking.hold_expires_at is None or booking.hold_expires_at > now:",
        wrong="booking.hold_expires_at is None or booking.hold_expires_at >= now:",
        tests=("tests/workers/decisions/test_holds.py",),
    ),
    Mutant(
        name="grants one use of a promo code more than there are",
        file="workers/decisions/codes.py",
        right="code.used_count >= terms.max_uses",
        wrong="code.used_count > terms.max_uses",
        tests=("tests/workers/decisions/test_codes.py",),
    ),
    Mutant(
        name="ends a trip with the first of its legs",
        file="workers/decisions/trips.py",
        right="any(leg.state is not LegState.CANCELLED for leg in trip.legs)",
        wrong="all(leg.state is not LegState.CANCELLED for leg in trip.legs)",
        tests=("tests/workers/decisions/test_trips.py",),
    ),
    Mutant(
        name="rounds half a unit down",
        file="pricing/rounding.py",
        right="(2 * numerator + parts) //",
        wrong="(2 * numerator + parts - 1) //",
        tests=("tests/pricing",),
    ),
    Mutant(
        name="cancels for nothing at the instant at which that ends",
        file="pricing/policy.py",
        right="if end is None or now < end)",
        wrong="if end is None or now <= end)",
        tests=("tests/pricing", "tests/workers/decisions/test_policies.py"),
    ),
    Mutant(
        name="sends money back again that Stripe has sent and the ledger has not recorded",
        file="workers/payments/refunding.py",
        right="sums.rest_minor - _unrecorded_refunds_minor(row, paid) - lost_minor",
        wrong="sums.rest_minor - lost_minor",
        tests=("tests/workers/payments/test_refunding.py",),
    ),
    Mutant(
        name="opens a session under another key at each try",
        file="workers/payments/steps.py",
        right="key=due.idempotency_key, since=due.created_at",
        wrong='key=f"{due.idempotency_key}:{due.failures}", since=due.created_at',
        tests=_MONEY,
    ),
    Mutant(
        name="opens a session again that Stripe opened before it answered with status 500",
        file="workers/payments/gateway.py",
        right="found = await self._find_session(ref, since)",
        wrong="found = None",
        tests=_MONEY,
    ),
    Mutant(
        name="repeats a refund for a day under the key that Stripe refused",
        file="workers/payments/refund_steps.py",
        right="        except Refused as refused:\n            await self._renew_key(due, call)\n",
        wrong="        except Refused as refused:\n",
        tests=_MONEY,
    ),
    Mutant(
        name="refunds all of a stay that its guest cancels, whatever its policy",
        file="workers/decisions/booking.py",
        right="kept_minor = 0 if policy is None else policy.kept_minor\n    return (",
        wrong="kept_minor = 0\n    return (",
        tests=_MONEY,
    ),
    Mutant(
        name="lets a guest pay for a cancellation by the hotel",
        file="workers/decisions/booking.py",
        right="if command.user_id is None or booking.status is not BookingStatus.CONFIRMED:",
        wrong="if booking.status is not BookingStatus.CONFIRMED:",
        tests=_MONEY,
    ),
    Mutant(
        name="credits what a command says, whatever the documents are of",
        file="workers/decisions/documents.py",
        right="min(command.amount_minor, max(0, net_minor - kept_minor))",
        wrong="command.amount_minor",
        tests=_MONEY,
    ),
    Mutant(
        name="is done with a refund whose rest is still due",
        file="workers/payments/refund_steps.py",
        right="if row is None or not (rest_minor := sums_of(row).rest_minor):",
        wrong="if row is None or (rest_minor := sums_of(row).rest_minor) >= 0:",
        tests=_MONEY,
    ),
    Mutant(
        name="asks for a refund under a new key each time",
        file="workers/payments/refunding.py",
        right='    if due.idempotency_key == key or due.idempotency_key.startswith(f"{key}/"):\n        return',
        wrong='    key = f"{key}:{random.random()}"  # noqa: S311 - broken on purpose\n    if False:\n        return',
        tests=("tests/workers/payments/test_refunding.py",),
    ),
    Mutant(
        name="takes objects of another installation at Stripe for its own",
        file="workers/stripe/marks.py",
        right="return hmac.compare_digest(mark.encode(), self.mark(booking_id, room_id).encode())",
        wrong="return True",
        tests=("tests/workers/reconciliation/test_ownership.py",),
    ),
    Mutant(
        name="writes behind a cursor that another worker moved on",
        file="workers/runtime/batch_transaction.py",
        right="self.states[key].applied != cursor.applied:",
        wrong="self.states[key].applied > cursor.applied:",
        tests=_BATCHES,
    ),
    Mutant(
        name="applies events beyond a gap",
        file="workers/runtime/batch_transaction.py",
        right="done = new if gap is None else [record for record in new if record.offset < gap.offset]",
        wrong="done = new",
        tests=_BATCHES,
    ),
    Mutant(
        name="lets the log's time go back",
        file="workers/runtime/batch_transaction.py",
        right="if cursor.last_time is None or at > cursor.last_time:",
        wrong="if True:",
        tests=_BATCHES,
    ),
    Mutant(
        name="forgets what the worker before had committed and not published",
        file="workers/runtime/assignment.py",
        right="        await self._publisher.publish(unpublished)\n",
        wrong="",
        tests=_BATCHES,
    ),
    Mutant(
        name="publishes newer records although older ones were not published",
        file="workers/runtime/batch_processor.py",
        right="            self._transaction.states.clear()\n            raise\n        failpoint",
        wrong="            raise\n        failpoint",
        tests=_BATCHES,
    ),
    Mutant(
        name="takes a cursor for its own that another worker moved by one record",
        file="workers/runtime/batch_transaction.py",
        right="self.states[key].applied != cursor.applied:",
        wrong="abs(self.states[key].applied - cursor.applied) > 1:",
        tests=_SIMULATION,
    ),
    Mutant(
        name="counts records as published before the broker has them",
        file="workers/runtime/batch_transaction.py",
        right="            cursor.applied = done[-1].offset\n            cursor.last_hash",
        wrong="            cursor.applied = cursor.published = done[-1].offset\n            cursor.last_hash",
        tests=_SIMULATION,
    ),
    Mutant(
        name="publishes the records of a batch out of order",
        file="workers/runtime/publisher.py",
        right="await producer.send_all(records)",
        wrong="await producer.send_all(records[::-1])",
        tests=_SIMULATION,
    ),
    Mutant(
        name="goes on although the broker acknowledged nothing",
        file="workers/runtime/publisher.py",
        right="                await backoff.wait(error)\n",
        wrong="                return\n",
        tests=_SIMULATION,
    ),
    Mutant(
        name="keeps in memory the nights of a transaction that was undone",
        file="workers/runtime/batch_processor.py",
        right="        except BaseException:\n            self._forget()\n            raise",
        wrong="        except BaseException:\n            raise",
        tests=_SIMULATION,
    ),
    Mutant(
        name="commits without the records to publish",
        file="storage/cursors.py",
        right="        if outbox:\n",
        wrong="        if outbox and False:\n",
        tests=("tests/storage/test_outbox.py",),
    ),
    Mutant(
        name="leaves the first batch out that was not published",
        file="storage/cursors.py",
        right="          and o.last_offset > c.published\n        order by",
        wrong="          and o.last_offset > c.published + 1\n        order by",
        tests=("tests/storage/test_outbox.py",),
    ),
    Mutant(
        name="applies an event again that was published twice",
        file="topics/sequence_tracker.py",
        right="if sequence <= self.last:",
        wrong="if sequence < self.last:",
        tests=("tests/topics/test_sequence_tracker.py",),
    ),
    Mutant(
        name="sends newer records of a partition after older ones failed",
        file="topics/kafka/producer.py",
        right="(self._sent, *self._open):\n            batch.fail(error)\n        self._open.clear()",
        wrong="(self._sent,):\n            batch.fail(error)",
        tests=("tests/topics/kafka/test_producer.py",),
    ),
    Mutant(
        name="answers 202 before the broker has the command",
        file="ingress/log/broker.py",
        right="            await producer.send(record)\n",
        wrong="            asyncio.ensure_future(producer.send(record))\n",
        tests=("tests/ingress/test_away.py",),
    ),
    Mutant(
        name="sends a command later whose guest was asked to try again",
        file="topics/kafka/leader_producers.py",
        right="            stack.push_async_callback(producer.abandon)\n",
        wrong="",
        tests=("tests/ingress/test_away.py",),
    ),
    Mutant(
        name="gives up a leader that acknowledges the records of other partitions",
        file="topics/kafka/leader_producers.py",
        right="if late and leader.producer.acknowledged_at(leader.node_id) < limit:",
        wrong="if late:",
        tests=("tests/topics/kafka/test_leader_producers.py",),
    ),
    Mutant(
        name="takes another body under a used Idempotency-Key",
        file="ingress/log/idempotency.py",
        right="if claim.body_hash != body_hash:",
        wrong="if False:",
        tests=("tests/ingress/log/test_idempotency.py",),
    ),
    Mutant(
        name="takes the booking of another request for this one's",
        file="workers/decisions/answers.py",
        right="booking.request_hash in (None, command.request_hash):",
        wrong="True:",
        tests=_RESERVING,
    ),
    Mutant(
        name="shows a guest somebody else's booking",
        file="storage/reads/bookings.py",
        right="select(*BOOKING_COLUMNS, *_AGREED_COLUMNS).where(Booking.id == booking_id, Booking.user_id == user_id)",
        wrong="select(*BOOKING_COLUMNS, *_AGREED_COLUMNS).where(Booking.id == booking_id)",
        tests=("tests/ingress/bookings/test_bookings.py",),
    ),
    Mutant(
        name="takes webhooks that nobody signed",
        file="ingress/webhooks/handlers.py",
        right="or not any(_is_signed(text, signature, each) for each in secrets):",
        wrong="or False:",
        tests=("tests/ingress/webhooks/test_webhooks.py",),
    ),
)
