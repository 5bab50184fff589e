"""Rate plans, taxes and policies, blocks and allowances of nights, and stays that end at the hotel.

The release before goes on beside it: it leaves the new columns empty, and no hotel uses them while it runs. No table is
read or written as a whole, so that its locks last milliseconds; the new checks are validated by 0010.

Revision: 0009, after 0008.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None

_STATUSES_BEFORE = ('REJECTED', 'RESERVED', 'GUESTS_ADDED', 'PAYMENTS_PENDING', 'CONFIRMED', 'CANCELLED', 'EXPIRED')
_STATUSES = (*_STATUSES_BEFORE, 'CHECKED_IN', 'CHECKED_OUT', 'NO_SHOW')
_NULLABLE = (
    ('booking', 'sale', postgresql.JSON()),
    ('booking', 'policy', postgresql.JSONB()),
    ('reported_stay', 'kept_minor', sa.BigInteger()),
    ('reported_stay', 'freed_from', sa.Date()),
)
_COUNTS = (
    ('inventory', 'allowance_count', sa.Integer()),
    ('inventory', 'blocked_count', sa.Integer()),
    ('room_night', 'allowance_count', sa.Integer()),
    ('room_night', 'blocked_count', sa.Integer()),
    ('daily_report', 'fees_minor', sa.BigInteger()),
)


def upgrade() -> None:
    """Apply."""
    # A statement that waits for a table makes all later ones wait, too (see 0007). That of a new table waits for
    # writers of the tables that its foreign keys name.
    op.execute("set local lock_timeout = '500ms'")
    # New tables come first, because the locks on the others last until the end.
    _create_tables()
    for table, name, kind in _NULLABLE:
        op.add_column(table, sa.Column(name, kind, nullable=True))
    for table, name, kind in _COUNTS:
        op.add_column(table, sa.Column(name, kind, server_default=sa.text('0'), nullable=False))
    _replace_status(_STATUSES)
    op.drop_constraint('never_oversold', 'inventory')
    op.create_check_constraint(
        'never_oversold',
        'inventory',
        'booked_count + reserved_count + blocked_count <= total_count + allowance_count',
        postgresql_not_valid=True,
    )
    op.create_check_constraint(
        'allowed_and_blocked', 'inventory', 'allowance_count >= 0 and blocked_count >= 0', postgresql_not_valid=True
    )


def _replace_status(statuses: tuple[str, ...]) -> None:
    op.drop_constraint('status', 'booking')
    op.create_check_constraint(
        'status',
        'booking',
        'status in ({})'.format(', '.join(f"'{status}'" for status in statuses)),
        postgresql_not_valid=True,
    )


def _create_tables() -> None:
    op.create_table(
        'room_sale_terms',
        sa.Column('room_id', sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column('version', sa.BigInteger(), nullable=False),
        sa.Column('terms', postgresql.JSONB(), nullable=False),
        sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_index('room_sale_terms_updated', 'room_sale_terms', ['updated_at'])
    op.create_table(
        'room_block',
        sa.Column('room_id', sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column('id', sa.Uuid(), primary_key=True),
        sa.Column('first_night', sa.Date(), nullable=False),
        sa.Column('end_night', sa.Date(), nullable=False),
        sa.Column('rooms_count', sa.Integer(), nullable=False),
        sa.Column('reason', sa.Text(), nullable=False),
        sa.Column('released', sa.Boolean(), nullable=False),
    )
    op.create_index('room_block_room', 'room_block', ['room_id', 'end_night'])
    op.create_table(
        'hotel_sale_terms',
        sa.Column(
            'hotel_id', sa.BigInteger(), sa.ForeignKey('hotel.id'), primary_key=True, autoincrement=False
        ),
        sa.Column('version', sa.BigInteger(), server_default=sa.text('1'), nullable=False),
        sa.Column('taxes', postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column('policies', postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column('infant_max_age', sa.Integer(), nullable=True),
        sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_table(
        'rate_plan',
        sa.Column('room_id', sa.BigInteger(), sa.ForeignKey('room.id'), primary_key=True, autoincrement=False),
        sa.Column('id', sa.Text(), primary_key=True),
        sa.Column('position', sa.Integer(), nullable=False),
        sa.Column('policy_id', sa.Text(), nullable=True),
        sa.Column('definition', postgresql.JSONB(), nullable=False),
    )


def downgrade() -> None:
    """Take back. Bookings in a state that the release before does not know become confirmed ones."""
    op.execute("update booking set status = 'CONFIRMED' where status in ('CHECKED_IN', 'CHECKED_OUT', 'NO_SHOW')")
    _replace_status(_STATUSES_BEFORE)
    op.drop_constraint('allowed_and_blocked', 'inventory')
    op.drop_constraint('never_oversold', 'inventory')
    op.execute("update inventory set total_count = total_count + allowance_count - blocked_count")
    for table, name, _ in reversed((*_NULLABLE, *_COUNTS)):
        op.drop_column(table, name)
    op.create_check_constraint('never_oversold', 'inventory', 'booked_count + reserved_count <= total_count')
    for table in ('rate_plan', 'hotel_sale_terms', 'room_block', 'room_sale_terms'):
        op.drop_table(table)
