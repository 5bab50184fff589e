"""Changes of stays, promo codes, trips, documents of hotels, and bookings made at the desk.

The release before goes on beside it: it leaves the new columns empty, and nobody changes a stay or uses a code while it
runs. No table is read or written as a whole, so that its locks last milliseconds; the new check is validated by 0017.

Revision: 0014, after 0013.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None

_NULLABLE = (
    ('booking', 'pending_change', postgresql.JSONB()),
    ('booking', 'earlier_stays', postgresql.JSONB()),
    ('booking', 'ended_change_ids', postgresql.JSONB()),
    ('booking', 'accepted_terms', sa.Text()),
    ('booking', 'legs', postgresql.JSONB()),
    ('booking', 'trip_id', sa.Uuid()),
    ('booking', 'trip_room_id', sa.BigInteger()),
)
_STATUSES_BEFORE = (
    'REJECTED', 'RESERVED', 'GUESTS_ADDED', 'PAYMENTS_PENDING', 'CONFIRMED', 'CANCELLED', 'EXPIRED', 'CHECKED_IN',
    'CHECKED_OUT', 'NO_SHOW',
)  # fmt: skip
_TABLES = ('desk_booking', 'promo_code_name', 'hotel_document', 'promo_code_use', 'promo_code')


def upgrade() -> None:
    """Apply."""
    # As in 0009: new tables come first, because the locks on the others last until the end.
    op.execute("set local lock_timeout = '500ms'")
    _create_ledger_tables()
    _create_describing_tables()
    for table, name, kind in _NULLABLE:
        op.add_column(table, sa.Column(name, kind, nullable=True))
    _replace_status((*_STATUSES_BEFORE, 'RESERVING'))


def _replace_status(statuses: tuple[str, ...]) -> None:
    op.drop_constraint('status', 'booking')
    op.create_check_constraint(
        'status',
        'booking',
        'status in ({})'.format(', '.join(f"'{status}'" for status in statuses)),
        postgresql_not_valid=True,
    )


def _create_ledger_tables() -> None:
    op.create_table(
        'promo_code',
        sa.Column('id', sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column('hotel_id', sa.BigInteger(), nullable=False),
        sa.Column('version', sa.BigInteger(), nullable=False),
        sa.Column('terms', postgresql.JSONB(), nullable=False),
        sa.Column('used_count', sa.Integer(), nullable=False),
        sa.CheckConstraint('used_count >= 0', name='used'),
    )
    op.create_index('ix_promo_code_hotel_id', 'promo_code', ['hotel_id'])
    op.create_table(
        'promo_code_use',
        sa.Column('code_id', sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column('booking_id', sa.Uuid(), primary_key=True),
        sa.Column('user_id', sa.BigInteger(), nullable=True),
        sa.Column('returned', sa.Boolean(), nullable=False),
    )
    op.create_index('promo_code_use_account', 'promo_code_use', ['code_id', 'user_id'])
    op.create_table(
        'hotel_document',
        sa.Column('id', sa.Uuid(), primary_key=True),
        sa.Column('hotel_id', sa.BigInteger(), nullable=False),
        sa.Column('kind', sa.Text(), nullable=False),
        sa.Column('number', sa.BigInteger(), nullable=False),
        sa.Column('reason', sa.Text(), nullable=False),
        sa.Column('booking_id', sa.Uuid(), nullable=False),
        sa.Column('amount_minor', sa.BigInteger(), nullable=False),
        sa.Column('currency', sa.Text(), nullable=False),
        sa.Column('lines', postgresql.JSONB(), nullable=False),
        sa.Column('corrects_id', sa.Uuid(), nullable=True),
        sa.Column('credited_minor', sa.BigInteger(), nullable=False),
        sa.Column('issued_at', sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind in ('invoice', 'credit_note')", name='kind'),
        sa.CheckConstraint('credited_minor between 0 and amount_minor', name='credited'),
    )
    op.create_index('hotel_document_number', 'hotel_document', ['hotel_id', 'kind', 'number'], unique=True)
    op.create_index('hotel_document_booking', 'hotel_document', ['booking_id'])


def _create_describing_tables() -> None:
    op.create_table(
        'promo_code_name',
        sa.Column('id', sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column('hotel_id', sa.BigInteger(), sa.ForeignKey('hotel.id'), nullable=False),
        sa.Column('code', sa.Text(), nullable=False),
        sa.Column('version', sa.BigInteger(), server_default=sa.text('1'), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_index('promo_code_name_code', 'promo_code_name', ['hotel_id', sa.text('lower(code)')], unique=True)
    op.create_table(
        'desk_booking',
        sa.Column('booking_id', sa.Uuid(), primary_key=True),
        sa.Column('hotel_id', sa.BigInteger(), sa.ForeignKey('hotel.id'), nullable=False),
        sa.Column('manager_id', sa.BigInteger(), nullable=False),
        sa.Column('contact_name', sa.Text(), nullable=False),
        sa.Column('contact_email', sa.Text(), nullable=True),
        sa.Column('contact_phone', sa.Text(), nullable=True),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_index('ix_desk_booking_hotel_id', 'desk_booking', ['hotel_id'])


def downgrade() -> None:
    """Take back. Changed bookings keep the stay that they have, and trips that are being reserved have expired."""
    op.execute("update booking set status = 'EXPIRED' where status = 'RESERVING'")
    _replace_status(_STATUSES_BEFORE)
    for table, name, _ in reversed(_NULLABLE):
        op.drop_column(table, name)
    for table in _TABLES:
        op.drop_table(table)
