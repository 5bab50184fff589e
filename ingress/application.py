"""Puts the ingress together: its parts, their lifetimes, and the routes of the operations of all areas."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from ingress.accounts.handlers import Auth, Users
from ingress.accounts.passwords import Passwords
from ingress.accounts.refresh import RefreshTokens
from ingress.admin.blocks.handlers import AdminBlocks
from ingress.admin.codes.handlers import AdminCodes
from ingress.admin.hotels.handlers import AdminHotels
from ingress.admin.inventory.handlers import AdminInventory
from ingress.admin.nights import Nights
from ingress.admin.reports.handlers import Reports
from ingress.admin.rooms.handlers import AdminRooms
from ingress.admin.sale_terms.handlers import AdminSaleTerms
from ingress.admin.sale_terms.sending import SaleTermsSender
from ingress.admin.statements.handlers import Statements
from ingress.bookings.admission import Admission
from ingress.bookings.at_hotel import StaysAtHotel
from ingress.bookings.changes import StayChanges
from ingress.bookings.desk import FrontDesk
from ingress.bookings.handlers import Bookings
from ingress.bookings.ids import BookingIds
from ingress.bookings.lists import BookingLists
from ingress.bookings.quotes import Quotes
from ingress.bookings.rejections import Rejections
from ingress.bookings.reserving import NewBookings
from ingress.bookings.rooms import Rooms
from ingress.bookings.trips import Trips
from ingress.bookings.unpaid import UnpaidCap
from ingress.database import Database
from ingress.documents.pages import Pages
from ingress.hotels.handlers import Hotels
from ingress.hotels.search.freshness import Freshness
from ingress.hotels.search.handlers import Search
from ingress.http.bodies import BODY_SECONDS, MAX_BODY_BYTES
from ingress.http.deadlines import Deadlines
from ingress.http.origins import allow_origins
from ingress.http.problems import answer_problems_within
from ingress.http.rollout import Rollout
from ingress.http.tracing import trace_requests
from ingress.invoices.handlers import Invoices
from ingress.limits.addresses import Addresses
from ingress.limits.buckets import Limits
from ingress.limits.login_delays import LoginDelays
from ingress.log.broker import Broker
from ingress.log.commands import Commands
from ingress.log.idempotency import IdempotencyKeys
from ingress.log.waiters import Waiters
from ingress.operations import operations_of, routes_of
from ingress.operators.handlers import Health, Ops
from ingress.rates.exchange_rates import ExchangeRates
from ingress.settings import IngressSettings
from ingress.tokens import QuoteTokens, Tokens
from ingress.webhooks.handlers import Webhooks
from storage.settings import DatabaseSettings
from telemetry import metrics, traces
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS
from topics.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from ingress.limits.redis_link import RedisLink

DATABASE: Final = web.AppKey("DATABASE", Database)
BROKER: Final = web.AppKey("BROKER", Broker)
FRESHNESS: Final = web.AppKey("FRESHNESS", Freshness)
EXCHANGE_RATES: Final = web.AppKey("EXCHANGE_RATES", ExchangeRates)
WAITERS: Final = web.AppKey("WAITERS", Waiters)
TOKENS: Final = web.AppKey("TOKENS", Tokens)
PASSWORDS: Final = web.AppKey("PASSWORDS", Passwords)
AREAS: Final[web.AppKey[list[object]]] = web.AppKey("AREAS")
BOOKING_IDS: Final = web.AppKey("BOOKING_IDS", BookingIds)
ADDRESSES: Final = web.AppKey("ADDRESSES", Addresses)
LOGIN_DELAYS: Final = web.AppKey("LOGIN_DELAYS", LoginDelays)
#: A percentage at which the share of an account is not limited.
_WHOLE_PERCENT: Final = 100


def create_app(
    settings: IngressSettings,
    kafka: KafkaSettings,
    database: DatabaseSettings,
    *,
    failed: Callable[[BaseException], None],
) -> web.Application:
    """Return the application; nothing is connected before it starts.

    It starts without broker and database, and keeps looking for them. `failed` is called with an error that ends it.
    """
    requests_database = Database(database, pool_size=settings.database_pool_size)
    deadlines = Deadlines(settings.request_seconds)
    middlewares = _middlewares(settings, deadlines, requests_database)
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    app[DATABASE] = requests_database
    app[BROKER] = Broker(
        kafka,
        (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS),
        ack_seconds=settings.ack_seconds,
        linger_ms=settings.linger_ms,
    )
    app[WAITERS] = Waiters(kafka, app[BROKER].topics_checked)
    app[TOKENS] = Tokens(settings)
    app[PASSWORDS] = Passwords(
        rounds=settings.bcrypt_rounds, threads=settings.password_threads, queue=settings.password_queue
    )
    app[FRESHNESS] = Freshness(app[DATABASE], kafka.topic(BOOKING_EVENTS))
    app[EXCHANGE_RATES] = ExchangeRates(settings.exchange_rates)
    app[BOOKING_IDS] = _booking_ids(settings)
    app[BODY_SECONDS] = settings.body_seconds
    app[ADDRESSES] = Addresses(settings.trusted_networks)
    redis = _redis(settings)
    app[LOGIN_DELAYS] = LoginDelays(settings, redis)
    limits = Limits(settings, app[ADDRESSES], redis) if settings.rate_limits else None
    _route(app, settings, kafka, database, limits)

    async def lifetimes(app: web.Application) -> AsyncIterator[None]:
        running = [app[part].run() for part in (BROKER, WAITERS, FRESHNESS, EXCHANGE_RATES, DATABASE)]
        running.append(deadlines.run())
        if redis is not None:
            running.append(redis.run())
        parts = [asyncio.create_task(part) for part in running]
        for part in parts:
            part.add_done_callback(lambda ended: _report(ended, failed))
        preparing = asyncio.create_task(app[PASSWORDS].prepare())
        yield
        for part in (*parts, preparing):
            part.cancel()
        await asyncio.gather(*parts, preparing, return_exceptions=True)
        app[PASSWORDS].close()
        await app[DATABASE].close()

    _measure(app[BROKER], app[WAITERS], app[FRESHNESS], app[DATABASE])
    app.cleanup_ctx.append(lifetimes)
    app.on_shutdown.append(_release_waiting_requests)
    return app


def _middlewares(settings: IngressSettings, deadlines: Deadlines, database: Database) -> Sequence[Middleware]:
    # The innermost, so that it gets the handler itself and can count by that.
    middlewares: list[Middleware] = [answer_problems_within(deadlines, database.reason_of)]
    if settings.allowed_origins:
        middlewares.insert(0, allow_origins(settings.allowed_origins))
    if traces.on():
        middlewares.insert(0, trace_requests)
    return middlewares


def _route(
    app: web.Application,
    settings: IngressSettings,
    kafka: KafkaSettings,
    database: DatabaseSettings,
    limits: Limits | None,
) -> None:
    rollout = Rollout(kafka.log_readable_by)
    commands = Commands(kafka, app[BROKER], app[WAITERS], rollout)
    rooms = Rooms(app[DATABASE], seconds=settings.room_facts_seconds)
    keys = IdempotencyKeys(app[DATABASE], _secret_of_ids(settings))
    quote_tokens = QuoteTokens(settings, app[DATABASE].installation_id)
    bookings = _bookings(
        app, settings, rooms=rooms, keys=keys, commands=commands, rollout=rollout, quote_tokens=quote_tokens
    )
    auth = Auth(
        database=app[DATABASE],
        passwords=app[PASSWORDS],
        tokens=app[TOKENS],
        refresh_tokens=RefreshTokens(app[DATABASE], settings),
        delays=app[LOGIN_DELAYS],
        addresses=app[ADDRESSES],
    )
    nights, sender = Nights(commands), SaleTermsSender(commands, rollout)
    areas: list[object] = [
        auth,
        Users(app[DATABASE], app[TOKENS], anybody_may_host=settings.host_signup),
        Hotels(app[DATABASE], app[EXCHANGE_RATES]),
        Search(app[FRESHNESS], app[EXCHANGE_RATES]),
        Quotes(
            app[DATABASE],
            rooms=rooms,
            tokens=quote_tokens,
            rollout=rollout,
            exchange_rates=app[EXCHANGE_RATES],
            merchant_name=settings.merchant_name,
            required_terms=rollout.recordable_terms(settings.required_terms),
        ),
        *bookings,
        BookingLists(app[DATABASE], rooms=rooms, keys=keys, commands=commands),
        StaysAtHotel(app[DATABASE], rooms=rooms, keys=keys, commands=commands),
        Reports(app[DATABASE]),
        Statements(app[DATABASE], settings.commission_percent),
        Invoices(app[DATABASE]),
        AdminHotels(app[DATABASE], nights, rollout),
        AdminRooms(app[DATABASE], nights, sender),
        AdminSaleTerms(app[DATABASE], sender),
        AdminCodes(app[DATABASE], commands=commands, rollout=rollout),
        AdminInventory(app[DATABASE], nights),
        AdminBlocks(app[DATABASE], keys=keys, commands=commands, rollout=rollout),
        Ops(kafka, database),
        Webhooks(kafka, app[BROKER], settings.webhook_secrets),
        Health(app[DATABASE], app[BROKER], app[WAITERS]),
    ]
    app[AREAS] = areas
    app.add_routes(routes_of(areas, app[TOKENS], limits, settings.public_prefix))
    rows = [row for area in areas for _, row in operations_of(area)]
    app.add_routes(Pages(rows, settings.public_prefix).routes())


def _bookings(
    app: web.Application,
    settings: IngressSettings,
    *,
    rooms: Rooms,
    keys: IdempotencyKeys,
    commands: Commands,
    rollout: Rollout,
    quote_tokens: QuoteTokens,
) -> tuple[NewBookings, Trips, Bookings, StayChanges, FrontDesk]:
    percent = settings.max_account_share_percent
    account_share_percent = percent if percent < _WHOLE_PERCENT else None
    rejections = Rejections(app[DATABASE], rooms, account_share_percent=account_share_percent)
    admission = _admission(app, settings, keys, commands)
    new = NewBookings(
        database=app[DATABASE],
        rooms=rooms,
        admission=admission,
        rollout=rollout,
        quote_tokens=quote_tokens,
        rejections=rejections,
        hold_seconds=settings.hold_seconds,
        account_share_percent=account_share_percent,
        required_terms=rollout.recordable_terms(settings.required_terms),
        merchant_name=settings.merchant_name,
    )
    trips = Trips(
        database=app[DATABASE],
        rooms=rooms,
        booking_ids=app[BOOKING_IDS],
        admission=admission,
        rollout=rollout,
        quote_tokens=quote_tokens,
        rejections=rejections,
        hold_seconds=settings.hold_seconds,
        account_share_percent=account_share_percent,
        required_terms=rollout.recordable_terms(settings.required_terms),
        merchant_name=settings.merchant_name,
    )
    existing, changes = _existing(
        app,
        settings,
        account_share_percent,
        rejections,
        rooms=rooms,
        keys=keys,
        commands=commands,
        rollout=rollout,
        quote_tokens=quote_tokens,
    )
    desk = FrontDesk(
        app[DATABASE],
        rooms=rooms,
        booking_ids=app[BOOKING_IDS],
        keys=keys,
        commands=commands,
        rollout=rollout,
        rejections=rejections,
    )
    return new, trips, existing, changes, desk


def _admission(app: web.Application, settings: IngressSettings, keys: IdempotencyKeys, commands: Commands) -> Admission:
    unpaid = UnpaidCap(
        app[DATABASE],
        most=settings.max_unpaid_bookings,
        reading_seconds=settings.room_facts_seconds,
        undecided_seconds=settings.hold_seconds,
    )
    return Admission(booking_ids=app[BOOKING_IDS], keys=keys, commands=commands, unpaid=unpaid)


def _existing(
    app: web.Application,
    settings: IngressSettings,
    account_share_percent: int | None,
    rejections: Rejections,
    *,
    rooms: Rooms,
    keys: IdempotencyKeys,
    commands: Commands,
    rollout: Rollout,
    quote_tokens: QuoteTokens,
) -> tuple[Bookings, StayChanges]:
    existing = Bookings(
        database=app[DATABASE],
        rooms=rooms,
        booking_ids=app[BOOKING_IDS],
        keys=keys,
        commands=commands,
        rollout=rollout,
        rejections=rejections,
        merchant_name=settings.merchant_name,
    )
    changes = StayChanges(
        database=app[DATABASE],
        rooms=rooms,
        booking_ids=app[BOOKING_IDS],
        keys=keys,
        commands=commands,
        quote_tokens=quote_tokens,
        rejections=rejections,
        hold_seconds=settings.hold_seconds,
        account_share_percent=account_share_percent,
        merchant_name=settings.merchant_name,
    )
    return existing, changes


def _redis(settings: IngressSettings) -> "RedisLink | None":
    if settings.redis_url is None:
        return None
    from ingress.limits.redis_link import RedisLink  # noqa: PLC0415 - its client takes 7 MB, which a process without Redis saves

    return RedisLink(settings.redis_url.get_secret_value())


def _secret_of_ids(settings: IngressSettings) -> str:
    """Return the secret that every process has, so that the ids of a request are the same in each."""
    return (settings.booking_id_key or settings.jwt_secret_key).get_secret_value()


def _booking_ids(settings: IngressSettings) -> BookingIds:
    if settings.booking_id_key is not None:
        return BookingIds(settings.booking_id_key.get_secret_value().encode())
    return BookingIds.with_key_from(settings.jwt_secret_key.get_secret_value())


def _measure(broker: Broker, waiters: Waiters, freshness: Freshness, database: Database) -> None:
    """Read the state of the parts whenever the metrics are read."""
    metrics.READY.set_function(lambda: [(("broker",), float(broker.ready)), (("events",), float(waiters.ready))])
    metrics.WAITING_REQUESTS.set_function(lambda: [((), len(waiters))])
    metrics.SEARCH_LOADED.set_function(lambda: [((), float(freshness.loaded))])
    metrics.POOL.set_function(lambda: zip((("used",), ("most",)), map(float, database.used), strict=True))


async def _release_waiting_requests(app: web.Application) -> None:
    app[WAITERS].release()


def _report(ended: asyncio.Task[None], failed: Callable[[BaseException], None]) -> None:
    if not ended.cancelled() and (error := ended.exception()) is not None:
        failed(error)
