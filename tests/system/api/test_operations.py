"""Every operation of the table on a whole system: its example gets its documented response, and others are refused."""

import time
from collections.abc import Callable
from dataclasses import replace

import jwt
import pytest
import pytest_asyncio

from ingress.operations import Access, Operation
from tests.ingress.table import rows
from tests.support.client import Answer
from tests.support.waiting import wait_until
from tests.system.api.document import Document
from tests.system.api.needs import Needs
from tests.system.api.world import Person, Request, World

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]
each_operation = pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def document(world: World) -> Document:
    return Document((await world.ask(Person(), Request(method="GET", path="/openapi.json"))).body)


@pytest.fixture(scope="module")
def needs(world: World) -> Needs:
    return Needs(world)


@each_operation
async def test_an_operations_example_is_answered_as_documented(
    world: World, needs: Needs, document: Document, row: Operation
) -> None:
    prepared = await needs.meet(row)

    answer = await world.ask(prepared.owner, prepared.request)

    assert answer.status == row.example.status, answer
    document.conforming(row, answer)


# The people who send requests, with their tokens.


def nobody(world: World) -> Person:
    return Person()


def the_guest(world: World) -> Person:
    return world.guest


def another_guest(world: World) -> Person:
    return world.stranger


def the_manager(world: World) -> Person:
    return world.host


def another_manager(world: World) -> Person:
    return world.rival


def the_operator(world: World) -> Person:
    return world.operator


def an_expired_token(world: World) -> Person:
    return world.host.holding(_forged(world, world.host, exp=int(time.time()) - 1))


def a_refresh_token(world: World) -> Person:
    return world.host.holding(world.host.refresh_token)


def a_token_of_another_type(world: World) -> Person:
    return world.host.holding(_forged(world, world.host, type="refresh"))


def a_token_signed_otherwise(world: World) -> Person:
    return world.host.holding(_forged(world, world.host, key="a key of somebody else's, which is long enough"))


def a_token_signed_by_nobody(world: World) -> Person:
    return world.host.holding(_forged(world, world.host, key=None))


def _forged(world: World, person: Person, *, key: str | None = "", **changes: object) -> str:
    """Return a person's token with changes; the key is ours if none is given, and None leaves it unsigned."""
    assert person.token is not None
    claims = jwt.decode(person.token, options={"verify_signature": False}) | changes
    ours = world.system.environment()["JWT_SECRET_KEY"]
    return jwt.encode(claims, ours if key == "" else key, algorithm="none" if key is None else "HS256")


WITHOUT_A_GOOD_TOKEN = (
    nobody,
    an_expired_token,
    a_refresh_token,
    a_token_of_another_type,
    a_token_signed_otherwise,
    a_token_signed_by_nobody,
)
EVERYBODY = (*WITHOUT_A_GOOD_TOKEN, the_guest, another_guest, the_manager, another_manager, the_operator)
#: The people with the role that an operation needs; first the one whose hotel or account it is about.
WITH_THE_ROLE = {Access.MANAGER: (the_manager, another_manager), Access.OPERATOR: (the_operator,)}
Who = Callable[[World], Person]


def refusal(row: Operation, who: Who) -> int | None:
    """Return with what the operation must refuse whoever asks for another's things; None when it must not.

    It knows nothing of the operation but its row in the table: a new one is judged like all others.
    """
    if row.access in (Access.ANYBODY, Access.SIGNED):
        return None
    if who in WITHOUT_A_GOOD_TOKEN:
        return 401
    allowed = WITH_THE_ROLE.get(row.access, EVERYBODY)
    if who not in allowed:
        return 403
    owner = the_guest if allowed is EVERYBODY else allowed[0]
    return 404 if row.placeholders and who is not owner else None


@each_operation
async def test_the_table_decides_who_may_do_what_with_whose_things(world: World, needs: Needs, row: Operation) -> None:
    expected = {who.__name__: refusal(row, who) or row.example.status for who in EVERYBODY}
    refused = [who for who in EVERYBODY if refusal(row, who)]
    prepared = await needs.meet(row)

    answered = {who.__name__: await status(world, who(world), prepared.request) for who in refused}
    # Nothing was wrong with the request but who sent it, and nothing came of it.
    assert await status(world, prepared.owner, prepared.request) == row.example.status
    for who in EVERYBODY:
        if who not in refused:
            answered[who.__name__] = await status(world, who(world), (await needs.meet(row)).request)

    assert answered == expected


async def status(world: World, person: Person, request: Request) -> int:
    return (await world.ask(person, request)).status


@pytest.mark.parametrize("row", [row for row in rows() if not row.service], ids=lambda row: row.id)
async def test_without_a_version_an_operation_waits_and_names_its_successor(
    world: World, needs: Needs, row: Operation
) -> None:
    async def decided() -> tuple[str, Answer] | None:
        prepared = await needs.meet(row)
        path = prepared.request.path.removeprefix("/v1")
        headers = {name: value for name, value in prepared.request.headers.items() if name != "Prefer"}
        answer = await world.ask(prepared.owner, replace(prepared.request, path=path, headers=headers))
        # A request whose decision takes a slow machine longer than it waits is sent anew.
        return None if answer.status == 202 else (path, answer)

    found = await wait_until(decided)
    assert found is not None
    path, answer = found
    assert answer.status in {200, 201, 204}, answer
    successor = [link for link in answer.headers.getall("Link") if 'rel="successor-version"' in link]
    assert len(successor) == 1
    assert successor[0].startswith(f"</v1{path}")
    assert answer.headers["Deprecation"].startswith("@")
    assert answer.headers["Sunset"].endswith("GMT")


async def test_after_all_this_there_is_no_dead_letter_no_stopped_part_and_no_finding_of_the_audit(world: World) -> None:
    await world.unharmed()
