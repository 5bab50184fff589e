"""Refunds and disputes of a payment one by one, amounts by night, guests as they were named, and the installation.

The release before goes on beside it: it leaves the new columns empty. No table is read or written as a whole, so that its
locks last milliseconds. Rows from before stay as they are: payments notes the payments of sessions when it starts, and
the daily report asks the ledger for that of a stay.

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
_NULLABLE = (
    ('booking', 'guest_list_id', sa.Uuid()),
    ('booking', 'earlier_guest_list_ids', postgresql.JSONB()),
    ('booking', 'night_amounts_minor', _AMOUNTS),
    ('booking', 'stay_times', postgresql.JSON()),
    ('booking', 'freed_from', sa.Date()),
    ('checkout_session', 'payment_intent', sa.Text()),
    ('reported_stay', 'night_amounts_minor', _AMOUNTS),
    ('reported_stay', 'payment_intent', sa.Text()),
    ('reported_stay', 'deductions', postgresql.JSONB()),
    ('reported_stay', 'night_deductions_minor', _AMOUNTS),
)


def _times() -> tuple[sa.Column, sa.Column]:
    return (
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )


def upgrade() -> None:
    """Apply."""
    # New tables come first, because the locks on the others last until the end.
    _create_tables()
    # A statement that waits for a table makes all later ones wait, too. This is below PostgreSQL's deadlock_timeout, so
    # that it is this migration that gives up, and no worker; it is tried again then.
    op.execute("set local lock_timeout = '500ms'")
    for table, name, kind in _NULLABLE:
        op.add_column(table, sa.Column(name, kind, nullable=True))
    op.add_column('refund', sa.Column('refusals', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.add_column('hotel', sa.Column('on_full_refund', sa.Text(), server_default='cancel', nullable=False))
    op.create_check_constraint('on_full_refund', 'hotel', "on_full_refund in ('cancel', 'keep')")
    op.drop_constraint('status', 'refund')
    op.create_check_constraint(
        'status',
        'refund',
        "status in ('creating', 'pending', 'succeeded', 'failed', 'closed')",
        postgresql_not_valid=True,
    )


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
    op.create_index(
        'payment_refund_pending', 'payment_refund', ['created_at'], postgresql_where=sa.text("status = 'pending'")
    )
    op.create_table(
        'unattributed_object',
        sa.Column('object_id', sa.Text(), primary_key=True),
        sa.Column('state', sa.Text(), primary_key=True),
        sa.Column('kind', sa.Text(), nullable=False),
        sa.Column('payment_intent', sa.Text(), nullable=False),
        sa.Column('fields', postgresql.JSONB(), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("kind in ('refund', 'dispute')", name='kind'),
    )
    op.create_index('unattributed_object_payment', 'unattributed_object', ['payment_intent'])
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
    for table in ('installation', 'guest_list', 'unattributed_object', 'payment_dispute', 'payment_refund'):
        op.drop_table(table)
    op.execute("update refund set status = 'failed' where status = 'closed'")
    op.drop_constraint('status', 'refund')
    op.create_check_constraint('status', 'refund', "status in ('creating', 'pending', 'succeeded', 'failed')")
    op.drop_constraint('on_full_refund', 'hotel')
    op.drop_column('hotel', 'on_full_refund')
    op.drop_column('refund', 'refusals')
    for table, name, _ in reversed(_NULLABLE):
        op.drop_column(table, name)
