"""A hotel with two taxes, two plans and a policy, a block and an allowance: set over HTTP, sold, and ended early."""

import asyncio
import os
import re
from pathlib import Path
from uuid import uuid4

import pytest

from tests.docs.blocks import blocks
from tests.system.money.desk import Desk, day

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

TERMS = {
    "taxes": [
        {"id": "vat", "name": "VAT", "percent": "10", "included": True},
        {"id": "service", "name": "Service", "percent": "5", "kind": "fee"},
    ],
    "policies": [
        {
            "id": "half",
            "steps": [{"hours_before": 24, "kept": {"nights": 1}}],
            "no_show": {"percent": 100},
            "early_departure_percent": 50,
        }
    ],
}


async def test_a_hotel_sells_by_its_terms_and_refunds_an_early_departure_by_its_policy(desk: Desk) -> None:
    inn = await desk.inn(total=2, check_in_time="00:00", check_out_time="23:59", time_zone="UTC")
    plans = f"{inn.path}/rooms/{inn.room.id}/plans"
    terms = await inn.host.ask("PUT", f"{inn.path}/sale-terms", json=TERMS)
    assert (terms.status, terms.body["rooms"][0]["version"]) == (200, 1), terms
    # The plan that guests get who name none, and a second one.
    standard = {"name": "Flexible", "policy_id": "half", "price_percent": "90", "price_plus": "10.00"}
    for plan_id, plan in (("standard", standard), ("saver", {"name": "Saver", "refundable": False})):
        changed = await inn.host.ask("PUT", f"{plans}/{plan_id}", json=plan)
        assert changed.status == 200, changed
    today = {"start_date": day(0), "end_date": day(1)}
    block = await inn.host.ask("POST", f"{inn.path}/rooms/{inn.room.id}/blocks", json={**today, "reason": "group"})
    assert block.status == 201, block
    full = await inn.host.ask(
        "POST", f"{inn.path}/rooms/{inn.room.id}/blocks", json={**today, "rooms_count": 2, "reason": "group"}
    )
    assert (full.status, full.body["refused"][0]["date"]) == (409, day(0)), full

    # 2 nights at 100.00 x 0.9 + 10.00, and the fee on top; the tax is in the price.
    paid = await desk.paid(inn, first=0, nights=2)
    assert await desk.sums(paid) == (21_000, 0, 0)
    # One room is blocked and one is sold: an allowance sells the next.
    sold_out = await (await desk.guest()).book(inn.room, 0, 2)
    assert (sold_out.status, sold_out.body["reason"]) == (409, "sold_out")
    nights = f"/v1/admin/inventory/rooms/{inn.room.id}?start_date={day(0)}&end_date={day(1)}"
    allowed = await inn.host.ask("PATCH", nights, json={"allowance_count": 1})
    assert [night["limit_count"] for night in allowed.body] == [3, 3]
    over = await desk.paid(inn, first=0, nights=2)

    bookings = f"{inn.path}/bookings"
    arrived = await inn.host.ask("POST", f"{bookings}/{paid.id}/check-in")
    assert (arrived.status, arrived.body["booking_status"]) == (200, "CHECKED_IN"), arrived
    left = await inn.host.ask("POST", f"{bookings}/{paid.id}/check-out")
    missing = await inn.host.ask("POST", f"{bookings}/{over.id}/no-show")

    # Both nights were left unused, and half of them is kept.
    assert (left.status, left.body["kept"], left.body["goes_back"]) == (200, "105.00", "105.00"), left
    assert (left.body["freed_from"], left.body["refunds"][0]["paid"]) == (day(0), "210.00")
    assert (missing.body["booking_status"], missing.body["kept"], missing.body["goes_back"]) == (
        "NO_SHOW",
        "210.00",
        "0.00",
    )
    await desk.happened(paid.id, "refunded")
    assert await desk.sums(paid) == (21_000, 10_500, 0)
    assert await desk.sums(over) == (21_000, 0, 0)
    assert await paid.guest.status(paid.id) == "CHECKED_OUT"
    released = await inn.host.ask("DELETE", f"{inn.path}/rooms/{inn.room.id}/blocks/{block.body['id']}")
    assert released.status == 204


async def test_the_requests_of_the_page_about_rates_work(desk: Desk, tmp_path: Path) -> None:
    (block,) = [block for block in blocks("sh") if block.page == "docs/rates.md" and "/sale-terms" in block.code]
    code = block.code.replace("http://127.0.0.1:8080/v1", f"{desk.house.system.url}/v1")
    code = code.replace("wait=5", "wait=30").replace("host@example.com", f"{uuid4().hex}@example.com")
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", code),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await shell.communicate())[0].decode()

    assert shell.returncode == 0, output
    assert "detail" not in output
    assert re.search(r'"version":3,"rooms":\[\{"room_id":\d+,"type":"double","version":3\}\]', output), output
    assert re.search(r'"blocked_count":2,"total_count":5,"allowance_count":1,"limit_count":6', output), output
    assert re.search(r'"id":"standard".*"id":"flex".*"id":"saver"', output), output
