"""Refunds and disputes of a payment one by one, amounts by night, guests as they were named, and the installation.

The release before goes on beside it: it leaves the new columns empty.

Revision: 0007, after 0006.
"""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None

_AMOUNTS = postgresql.ARRAY(sa.BigInteger())
_UNPAID = "status in ('RESERVED', 'GUESTS_ADDED', 'PAYMENTS_PENDING') or status = 'CONFIRMED' and terms = 'at_hotel'"
_NULLABLE = (
    ('booking', 'guest_list_id', sa.Uuid()),
    ('booking', 'earlier_guest_list_ids', postgresql.JSONB()),
    ('booking', 'night_amounts_minor', _AMOUNTS),
    ('booking', 'stay_times', postgresql.JSONB()),
    ('booking', 'freed_from', sa.Date()),
    ('checkout_session', 'payment_intent', sa.Text()),
    ('reported_stay', 'night_amounts_minor', _AMOUNTS),
    ('reported_stay', 'payment_intent', sa.Text()),
    ('reported_stay', 'deductions', postgresql.JSONB()),
    ('reported_stay', 'night_deductions_minor', _AMOUNTS),
)
#: The payments of sessions from before are in their bookings.
_PAYMENTS_OF_SESSIONS = """
update checkout_session s set payment_intent = paid.value ->> 'payment_intent'
from booking b cross join lateral jsonb_array_elements(b.payments) as paid
where b.id = s.booking_id and paid.value ->> 'session_id' = s.session_id
"""
_PAYMENTS_OF_REPORTED_STAYS = """
update reported_stay s set payment_intent = paid.value ->> 'payment_intent'
from booking b cross join lateral jsonb_array_elements(b.payments) as paid
where b.id = s.booking_id and paid.value ->> 'state' = 'kept'
"""


def _times() -> tuple[sa.Column, sa.Column]:
    return (
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )


def upgrade() -> None:
    """Apply."""
    for table, name, kind in _NULLABLE:
        op.add_column(table, sa.Column(name, kind, nullable=True))
    op.add_column('hotel', sa.Column('on_full_refund', sa.Text(), server_default='cancel', nullable=False))
    op.create_check_constraint('on_full_refund', 'hotel', "on_full_refund in ('cancel', 'keep')")
    op.execute(_PAYMENTS_OF_SESSIONS)
    op.execute(_PAYMENTS_OF_REPORTED_STAYS)
    op.create_index(
        'reported_stay_estimated',
        'reported_stay',
        ['hotel_id', 'check_in'],
        postgresql_where=sa.text('night_amounts_minor is null'),
    )
    op.create_index('booking_unpaid', 'booking', ['user_id', 'room_id'], postgresql_where=sa.text(_UNPAID))
    op.create_index(
        'checkout_session_payment',
        'checkout_session',
        ['payment_intent'],
        postgresql_where=sa.text('payment_intent is not null'),
    )
    op.drop_constraint('status', 'refund')
    op.create_check_constraint('status', 'refund', "status in ('creating', 'pending', 'succeeded', 'failed', 'closed')")
    op.create_index(
        'refund_unfinished',
        'refund',
        ['status'],
        postgresql_where=sa.text("status in ('creating', 'pending', 'failed')"),
    )
    _create_tables()


def _create_tables() -> None:
    op.create_table(
        'payment_refund',
        sa.Column('refund_id', sa.Text(), primary_key=True),
        sa.Column('payment_intent', sa.Text(), nullable=False),
        sa.Column('booking_id', sa.Uuid(), nullable=False),
        sa.Column('amount_minor', sa.BigInteger(), nullable=False),
        sa.Column('currency', sa.Text(), nullable=False),
        sa.Column('status', sa.Text(), nullable=False),
        sa.Column('by_hand', sa.Boolean(), server_default='false', nullable=False),
        sa.Column('failure', sa.Text(), nullable=True),
        *_times(),
        sa.CheckConstraint("status in ('pending', 'succeeded', 'failed')", name='status'),
    )
    op.create_table(
        'payment_dispute',
        sa.Column('dispute_id', sa.Text(), primary_key=True),
        sa.Column('payment_intent', sa.Text(), nullable=False),
        sa.Column('booking_id', sa.Uuid(), nullable=False),
        sa.Column('amount_minor', sa.BigInteger(), nullable=False),
        sa.Column('currency', sa.Text(), nullable=False),
        sa.Column('status', sa.Text(), nullable=False),
        sa.Column('reason', sa.Text(), nullable=False),
        *_times(),
        sa.CheckConstraint("status in ('open', 'won', 'lost')", name='status'),
    )
    for table in ('payment_refund', 'payment_dispute'):
        op.create_index(f'{table}_payment', table, ['payment_intent'])
        op.create_index(f'{table}_booking', table, ['booking_id'])
    op.create_table(
        'guest_list',
        sa.Column('id', sa.Uuid(), primary_key=True),
        sa.Column('booking_id', sa.Uuid(), nullable=False),
        sa.Column('user_id', sa.BigInteger(), nullable=False),
        sa.Column('guests', postgresql.JSONB(), nullable=True),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column('erased_at', sa.DateTime(timezone=True), nullable=True),
    )
    op.create_index('guest_list_booking', 'guest_list', ['booking_id'])
    op.create_index('guest_list_user', 'guest_list', ['user_id'])
    installation = op.create_table('installation', sa.Column('id', sa.Uuid(), primary_key=True))
    op.bulk_insert(installation, [{'id': uuid4()}])


def downgrade() -> None:
    """Take back."""
    for table in ('installation', 'guest_list', 'payment_dispute', 'payment_refund'):
        op.drop_table(table)
    op.drop_index('refund_unfinished', 'refund')
    op.execute("update refund set status = 'failed' where status = 'closed'")
    op.drop_constraint('status', 'refund')
    op.create_check_constraint('status', 'refund', "status in ('creating', 'pending', 'succeeded', 'failed')")
    op.drop_index('checkout_session_payment', 'checkout_session')
    op.drop_index('booking_unpaid', 'booking')
    op.drop_index('reported_stay_estimated', 'reported_stay')
    op.drop_constraint('on_full_refund', 'hotel')
    op.drop_column('hotel', 'on_full_refund')
    for table, name, _ in reversed(_NULLABLE):
        op.drop_column(table, name)
