"""Operations of managers on blocks, which take rooms off sale: read from the ledger, changed through the log."""

from datetime import date, timedelta
from functools import partial
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.admin.blocks.models import BlockIn, BlockOut, BlocksQuery
from ingress.admin.nights import NightsRefused, nights_refused
from ingress.admin.resources import AnyContext
from ingress.database import Database, snapshot
from ingress.http.bodies import refused_field
from ingress.http.deadlines import otherwise
from ingress.http.models import NoBody, NoQuery
from ingress.http.paging import NEXT_PAGE, Cursors, first_page, link_to_next
from ingress.http.preferences import PREFER
from ingress.http.problems import Problem, existing, no_such
from ingress.http.responses import Response, json_response, no_content
from ingress.http.rollout import Rollout
from ingress.http.waiting import ACCEPTED, ACCEPTED_HEADERS, WAITED_HEADERS, accepted, waited_headers
from ingress.log.commands import Commands
from ingress.log.idempotency import IDEMPOTENCY_KEY, IdempotencyKeys, Ids
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.stays import today_at
from storage import hotels, offers
from storage.hotels import RoomRow
from storage.offers import BlockRow
from topics.envelope import format_id
from topics.messages.commands import BlockNights, ReleaseBlock
from topics.messages.events import InventoryUnchanged
from topics.messages.message import Message
from topics.messages.values import MAX_NIGHTS, BlockReason, InventoryRefusal, nights_of

_BLOCKS: Final = "/admin/hotels/{hotel_id}/rooms/{room_id}/blocks"
_ROOM_PATH: Final = {"hotel_id": 1, "room_id": 1}
_BLOCK_PATH: Final = {**_ROOM_PATH, "block_id": "01980000-0000-4000-8000-000000000001"}
_SAME_BLOCK: Final = {
    "hotel_id": "$request.path.hotel_id",
    "room_id": "$request.path.room_id",
    "block_id": "$response.body#/id",
}
_WAITING: Final = {"Prefer": "wait=5"}
_STEERING: Final = (PREFER, IDEMPOTENCY_KEY)
_ONE_DAY: Final = timedelta(days=1)
_NOT_FREE: Final = frozenset({InventoryRefusal.NIGHT_NOT_FREE, InventoryRefusal.NIGHT_NOT_OPEN})
_positions: Final = Cursors(tuple[date, UUID])


class AdminBlocks:
    """The operations of managers on the blocks of their rooms."""

    def __init__(self, database: Database, *, keys: IdempotencyKeys, commands: Commands, rollout: Rollout) -> None:
        self._database = database
        self._keys = keys
        self._commands = commands
        self._rollout = rollout

    @operation(
        f"POST {_BLOCKS}",
        access=Access.MANAGER,
        summary="Take rooms off sale",
        responses={
            201: ResponseSpec(
                BlockOut, "Off sale: the request waited for it.", {"Location": "The block.", **WAITED_HEADERS}
            ),
            202: ResponseSpec(BlockOut, ACCEPTED, ACCEPTED_HEADERS),
            409: ResponseSpec(NightsRefused, "Some of the nights, which are named, have not so many free rooms."),
        },
        example=Example(
            status=201,
            path=_ROOM_PATH,
            headers=_WAITING,
            body={"start_date": "2026-12-24", "end_date": "2026-12-26", "rooms_count": 1, "reason": "maintenance"},
        ),
        headers=_STEERING,
        links=dict.fromkeys(("read_block", "release_block"), _SAME_BLOCK),
    )
    async def block_nights(self, context: RequestContext[BlockIn, NoQuery]) -> Response:
        """Take rooms off sale for every night of the range, or for none of them.

        With an `Idempotency-Key` the same request can be sent again, and stays one block.
        """
        async with self._database.reading() as connection:
            room = await _own_room(connection, context)
        command = _command(context.body, room, uuid4())
        self._rollout.must_be_decidable(command)

        async def accept() -> None:
            _must_make_sense(context.body, today_at(room.time_zone))

        def new_ids(seed: bytes | None) -> Ids:
            # One command alone makes a block, so the block's id can be the command's too.
            block_id = command.block_id if seed is None else UUID(bytes=seed, version=4)
            return Ids(format_id(block_id), block_id)

        ids = await self._keys.ids(context.request, context.caller.user_id, context.body, new_ids, accept)
        command = _command(context.body, room, ids.booking_id)
        event = await self._commands.send_command(command, context.wait_seconds, command_id=ids.command_id)
        block = BlockRow(
            id=command.block_id,
            room_id=room.id,
            first_night=command.first_night,
            end_night=command.end_night,
            rooms_count=command.rooms_count,
            reason=command.reason,
            released=False,
        )
        path = f"/admin/hotels/{room.hotel_id}/rooms/{room.id}/blocks"
        if event is None:
            return accepted(context, _block_out(block), path)
        otherwise(partial(accepted, context, _block_out(block), path))
        await self._must_be_blocked(event, command)
        async with self._database.reading() as connection:
            # A repeated request may be about a block that was released meanwhile.
            block = await offers.block_of(connection, room.id, block.id) or block
        headers = {"Location": context.link(f"{path}/{block.id}"), **waited_headers(context)}
        return json_response(201, _block_out(block), headers)

    @operation(
        f"GET {_BLOCKS}",
        access=Access.MANAGER,
        summary="List a room's blocks",
        responses={200: ResponseSpec(list[BlockOut], "By first night.", NEXT_PAGE)},
        example=Example(path=_ROOM_PATH, query={"released": True, "past": True, "limit": 10}),
    )
    async def list_blocks(self, context: RequestContext[NoBody, BlocksQuery]) -> Response:
        """List the blocks of a room that are not over at the hotel and not released.

        With `past=true` those that are over are listed too, and with `released=true` those that were released.
        """
        query = context.query
        after = _positions.read(query.cursor)
        async with self._database.reading() as connection, snapshot(connection):
            room = await _own_room(connection, context)
            rows = await offers.blocks_of(
                connection,
                room.id,
                limit=query.limit,
                after=after,
                with_released=query.released,
                ending_after=None if query.past else today_at(room.time_zone),
            )
        page, last = first_page(rows, query.limit)
        return json_response(
            200, [_block_out(block) for block in page], link_to_next(context.address_with, last, _position)
        )

    @operation(
        f"GET {_BLOCKS}/{{block_id}}",
        access=Access.MANAGER,
        summary="Read a block",
        responses={200: BlockOut},
        example=Example(path=_BLOCK_PATH),
    )
    async def read_block(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read a block of a room, also one that is over or was released."""
        async with self._database.reading() as connection, snapshot(connection):
            room = await _own_room(connection, context)
            block = existing(await offers.block_of(connection, room.id, context.path["block_id"]), "block")
        return json_response(200, _block_out(block))

    @operation(
        f"DELETE {_BLOCKS}/{{block_id}}",
        access=Access.MANAGER,
        summary="Put the rooms of a block on sale again",
        responses={
            202: ResponseSpec(BlockOut, ACCEPTED, ACCEPTED_HEADERS),
            204: ResponseSpec(None, "On sale again: the request waited for it.", WAITED_HEADERS),
        },
        example=Example(status=204, path=_BLOCK_PATH, headers=_WAITING),
        headers=(PREFER,),
    )
    async def release_block(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Release a block; it stays in the list of all blocks. Released again it stays as it is."""
        async with self._database.reading() as connection, snapshot(connection):
            room = await _own_room(connection, context)
            block = existing(await offers.block_of(connection, room.id, context.path["block_id"]), "block")
        command = ReleaseBlock(room_id=room.id, block_id=block.id)
        event = await self._commands.send_command(command, context.wait_seconds)
        if event is None:
            return accepted(context, _block_out(block), f"/admin/hotels/{room.hotel_id}/rooms/{room.id}/blocks")
        if isinstance(event, InventoryUnchanged) and event.reason is not None:
            raise no_such("block")
        return no_content(waited_headers(context))

    async def _must_be_blocked(self, event: Message | None, command: BlockNights) -> None:
        """Check that the command was not refused.

        Raises:
            Problem: 409 naming the nights that have not so many free rooms, 422 for any other reason.
        """
        if not isinstance(event, InventoryUnchanged) or event.reason is None:
            return
        if event.reason not in _NOT_FREE:
            words = event.reason.replace("_", " ")
            raise Problem(422, f"refused: {words}", more={"reason": str(event.reason)})
        async with self._database.reading() as connection:
            last = command.end_night - _ONE_DAY
            nights = await hotels.nights_of_room(connection, command.room_id, command.first_night, last)
        free_counts = {night.night: night.free_count for night in nights}
        missing = [day for day in nights_of(command.first_night, command.end_night) if day not in free_counts]
        full = [day for day, count in free_counts.items() if count < command.rooms_count]
        reason, words = str(event.reason), "these nights are not on sale"
        if event.reason is InventoryRefusal.NIGHT_NOT_FREE:
            words = f"these nights do not have {command.rooms_count} free rooms"
        named = missing if event.reason is InventoryRefusal.NIGHT_NOT_OPEN else full
        raise nights_refused(words, [(day, reason) for day in named], reason)


async def _own_room(connection: AsyncConnection, context: AnyContext) -> RoomRow:
    path, user_id = context.path, context.caller.user_id
    return existing(await hotels.own_room(connection, path["room_id"], user_id, hotel_id=path["hotel_id"]), "room")


def _must_make_sense(body: BlockIn, today: date) -> None:
    """Check the dates of a new block. Raises `Problem` 422."""
    if body.start_date < today:
        raise refused_field("start_date", f"must not be before today at the hotel, which is {today}")
    if body.end_date < body.start_date:
        raise refused_field("end_date", "must not be before start_date")
    if (body.end_date - body.start_date).days >= MAX_NIGHTS:
        raise refused_field("end_date", f"must be within {MAX_NIGHTS} days of start_date")


def _command(body: BlockIn, room: RoomRow, block_id: UUID) -> BlockNights:
    return BlockNights(
        room_id=room.id,
        block_id=block_id,
        first_night=body.start_date,
        end_night=body.end_date + _ONE_DAY,
        rooms_count=body.rooms_count,
        reason=body.reason,
    )


def _block_out(block: BlockRow) -> BlockOut:
    return BlockOut(
        id=block.id,
        room_id=block.room_id,
        start_date=block.first_night,
        end_date=block.end_night - _ONE_DAY,
        rooms_count=block.rooms_count,
        reason=BlockReason(block.reason),
        released=block.released,
    )


def _position(block: BlockRow) -> str:
    return _positions.write((block.first_night, block.id))
