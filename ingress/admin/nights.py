"""Changes of nights by a manager: commands that always wait for their decision, and problems that name nights."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final, TypeAlias

from ingress.http.models import OutModel, Problems
from ingress.http.problems import Problem
from ingress.log.commands import Commands
from ingress.stays import HORIZON, today_at
from storage.hotels import OpenNights, RoomRow
from topics.messages.commands import ChangeInventory, Command, OpenInventory
from topics.messages.events import InventoryChanged, InventoryOpened, InventoryUnchanged, RefusedNight
from topics.messages.message import Message
from topics.messages.values import MAX_NIGHTS, NightRefusal

_WAIT_SECONDS: Final = 10.0
_MAX_NIGHTS_NAMED: Final = 5
#: How often a deletion takes nights off sale again that another request puts back each time.
TRIES: Final = 3
_ONE_DAY: Final = timedelta(days=1)
# A field may have the name of its type.
_Date: TypeAlias = date


class NightRefused(OutModel):
    """One night that keeps its values, and the reason."""

    date: _Date
    reason: str


class NightsRefused(Problems):
    """A change that was not made: `refused` names the nights that prevent it."""

    refused: list[NightRefused] | None = None


class Nights:
    """Sends commands about nights. Each of them may be sent again until it is decided."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def open_all(self, room: RoomRow) -> bool:
        """Put a room's nights on sale from today to the horizon; return whether all of them were new.

        Raises:
            Problem: 503, the command was not decided in time.
        """
        first_night = today_at(room.time_zone)
        command = OpenInventory(
            room_id=room.id,
            hotel_id=room.hotel_id,
            first_night=first_night,
            end_night=first_night + HORIZON,
            total_count=room.total_count,
            price_minor=room.base_price_minor,
            currency=room.currency,
        )
        event = await self._send(command)
        if isinstance(event, InventoryOpened):
            return (event.first_night, event.end_night) == (command.first_night, command.end_night)
        return False

    async def change(self, command: ChangeInventory) -> InventoryChanged:
        """Change nights; the event also has the nights that keep their values.

        Raises:
            Problem: 503, the command was not decided in time.
        """
        event = await self._send(command)
        if not isinstance(event, InventoryChanged):
            raise TypeError(f"a change of nights was answered by {event}")
        return event

    async def change_all_to_come(
        self,
        room: RoomRow,
        last_night: date | None,
        *,
        total_count: int,
        price_minor: int | None = None,
        allowance_count: int | None = None,
        closed: bool | None = None,
        if_sold: str = "more than that is sold or blocked",
    ) -> InventoryChanged:
        """Change all nights from today on that are on sale (`last_night` is the last of them), or none.

        Raises:
            Problem: 409 with `if_sold` and the nights of which more is sold than `total_count`; 503 as `change`.
        """
        first_night = today_at(room.time_zone)
        # The day may change, and with it the horizon, before the command is decided.
        end_night = max(last_night or first_night, first_night + HORIZON) + _ONE_DAY
        event = await self.change(
            ChangeInventory(
                room_id=room.id,
                first_night=first_night,
                end_night=min(end_night, first_night + timedelta(days=MAX_NIGHTS)),
                price_minor=price_minor,
                closed=closed,
                total_count=total_count,
                allowance_count=allowance_count,
                all_or_none=True,
            )
        )
        if sold := [night for night in event.refused if night.reason is not NightRefusal.NOT_OPEN]:
            raise nights_not_changed(if_sold, sold)
        return event

    async def take_off_sale(self, room: RoomRow, nights: OpenNights) -> None:
        """Close all nights from today on, so that none of them can be sold or changed any more.

        Raises:
            Problem: 409 naming the nights that are sold, held or blocked; 503 as `change`.
        """
        await self.change_all_to_come(
            room,
            nights.last,
            total_count=0,
            # A release that knows no allowance reads the command of a room without one.
            allowance_count=0 if nights.have_allowance else None,
            closed=True,
            if_sold="it has bookings or blocks to come",
        )

    async def _send(self, command: Command) -> Message:
        event = await self._commands.send_command(command, _WAIT_SECONDS)
        if event is None:
            raise Problem(
                503,
                "the change is not decided yet; send the same request again, it continues this one",
                headers={"Retry-After": "2"},
                more={"reason": "not_decided_yet"},
            )
        if isinstance(event, InventoryUnchanged) and event.reason is not None:
            reason = event.reason
            raise Problem(422, f"refused: {reason.replace('_', ' ')}", more={"reason": str(reason)})
        return event


def put_back_on_sale() -> Problem:
    """Return the problem of a deletion whose nights another request puts on sale at the same time."""
    return Problem(409, "somebody put nights of it on sale meanwhile", more={"reason": "changed_meanwhile"})


def nights_not_changed(detail: str, refused: Sequence[RefusedNight]) -> Problem:
    """Return the problem of a change that these nights prevent, as the event has them."""
    return nights_refused(detail, [(night.night, str(night.reason)) for night in refused])


def nights_refused(detail: str, refused: Sequence[tuple[date, str]], reason: str | None = None) -> Problem:
    """Return the problem of a change that these nights prevent, each with its reason; the detail names the first few.

    `reason` is that of the whole change; by default that of the first night.
    """
    named = ", ".join(str(night) for night, _ in refused[:_MAX_NIGHTS_NAMED])
    more = f" and {len(refused) - _MAX_NIGHTS_NAMED} more nights" if len(refused) > _MAX_NIGHTS_NAMED else ""
    return Problem(
        409,
        f"{detail}: {named}{more}" if named else detail,
        more={
            "reason": reason or refused[0][1],
            "refused": [{"date": night, "reason": each} for night, each in refused],
        },
    )
