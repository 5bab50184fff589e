"""A host with a browser: sets prices over HTTP, and reads what was sold."""

import asyncio
from datetime import date
from typing import Final

from sandbox.client import Client

_REPORT_POLL_SECONDS: Final = 0.1


class Host(Client):
    """A person who has a hotel. Each method sends the request of one click."""

    async def set_surge(self, room_id: int, night: date, surge_factor: str) -> None:
        """Change the price of one night, through the log."""
        path = f"/v1/admin/inventory/rooms/{room_id}?start_date={night}&end_date={night}"
        changed = await self._ask("PATCH", path, {"surge_factor": surge_factor})
        [now] = changed.body
        words = f"The night of {now['date']} costs {now['price']} x {now['surge_factor']} from now on"
        self._hops.show(words, str(changed))

    async def read_report(self, hotel_id: int, first: date, last: date) -> None:
        """Read what was sold, once the report has it."""
        path = f"/v1/admin/hotels/{hotel_id}/reports?start_date={first}&end_date={last}"
        while True:
            response = await self._ask("GET", path)
            report = response.body
            if report["total_bookings"]:
                break
            await asyncio.sleep(_REPORT_POLL_SECONDS)
        sold = f"{report['total_bookings']} bookings, {report['total_revenue']} {report['currency']}"
        self._hops.show(f"Sold from {first} to {last}: {sold}", str(response))
