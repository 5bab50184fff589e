"""Paid stays get invoices and credit notes, each once and numbered without a gap, while coordination is killed."""

import pytest

from tests.support.money import read_events
from tests.support.waiting import wait_until
from tests.system.money.desk import Desk, Inn, Paid
from tests.system.pipeline.faults import Fault, inject
from topics.messages.sale import CancellationPolicy, Kept, PolicyStep, RatePlan, SaleTerms, Tax

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

COORDINATION = "coordination-1"
#: Half of the price is kept from a year before check-in on.
TERMS = SaleTerms(
    version=1,
    plans=(
        RatePlan(
            id="half",
            name="Half back",
            policy=CancellationPolicy(id="half", steps=(PolicyStep(hours_before=365 * 24, kept=Kept(percent=50)),)),
        ),
    ),
    taxes=(Tax(id="vat", name="VAT", percent_milli=7_000, included=True),),
)


async def test_documents_have_no_gap_and_none_is_there_twice_whenever_coordination_dies(desk: Desk) -> None:
    inn, other = await desk.inn(), await desk.inn()
    await desk.sell_by(inn, TERMS)
    first = await desk.paid(inn)
    await listed(desk, first, "INV-000001 200.00")

    armed = await dies_with_its_next_commands(desk)
    assert (await first.cancel()).status == 204
    await listed(desk, first, "INV-000001 200.00", "INV-000002 100.00", "CRN-000001 200.00")
    assert desk.house.system.pid(COORDINATION) != armed, "it died with the commands of the cancellation"
    await desk.house.system.kill_part(COORDINATION)
    second, third = await desk.paid(inn, first=25), await desk.paid(other, first=25)
    refund = await desk.refund_by_hand(third, 50_00)
    await desk.happened(third.id, "refunded")
    await desk.house.system.start_part(COORDINATION)

    await listed(desk, second, "INV-000003 200.00")
    await listed(desk, third, "INV-000001 200.00", "CRN-000001 50.00")
    await desk.fail(refund)
    await listed(desk, third, "INV-000001 200.00", "CRN-000001 50.00", "INV-000002 50.00")
    (again,) = [each for each in await documents(third) if each["reason"] == "refund_failed"]
    assert again["corrects"] == "CRN-000001"
    (note,) = [each for each in await documents(first) if each["kind"] == "credit_note"]
    assert (note["corrects"], note["tax"]) == ("INV-000001", "13.08")
    month = await desk.house.rows("select to_char(now() at time zone 'UTC', 'YYYY-MM') as month")
    assert [len(await of_hotel(each, month[0]["month"])) for each in (inn, other)] == [4, 3]
    await numbered_without_a_gap(desk, inn, other)


async def dies_with_its_next_commands(desk: Desk) -> int:
    """Let coordination die when its next commands are committed and not published; return its process id."""
    system = desk.house.system
    before = system.pid(COORDINATION)
    await inject(
        system, Fault(at_seconds=0, kind="failpoint", part=COORDINATION, failpoint="coordination.after_commit:1")
    )
    await wait_until(
        lambda: system.supervisor[COORDINATION].running_pid not in (None, before), message="coordination runs again"
    )
    return system.pid(COORDINATION)


async def documents(paid: Paid) -> list[dict[str, str]]:
    """Return the documents of a booking as its guest sees them."""
    answered = await paid.guest.ask("GET", f"/v1/bookings/{paid.id}/documents")
    assert answered.status == 200, answered
    return list(answered.body)


async def listed(desk: Desk, paid: Paid, *expected: str) -> None:
    """Wait until a booking has exactly these documents."""

    async def there() -> bool:
        found = [f"{each['number']} {each['amount']}" for each in await documents(paid)]
        assert set(found) <= set(expected), found
        return sorted(found) == sorted(expected)

    await wait_until(there, message=f"{expected} of booking {paid.id}")


async def of_hotel(inn: Inn, month: str) -> list[dict[str, str]]:
    """Return the documents of a hotel's month."""
    return list((await inn.host.ask("GET", f"{inn.path}/documents?month={month}")).body)


async def numbered_without_a_gap(desk: Desk, *inns: Inn) -> None:
    """Each series of these hotels is 1, 2, 3 ... on the log, in order."""
    issued = [event for name, event in await read_events(desk.log) if name == "document.issued.v1"]
    for inn in inns:
        for kind in ("invoice", "credit_note"):
            of_series = (inn.room.hotel_id, kind)
            numbers = [each["number"] for each in issued if (each["hotel_id"], each["kind"]) == of_series]
            assert numbers
            assert numbers == list(range(1, len(numbers) + 1))
