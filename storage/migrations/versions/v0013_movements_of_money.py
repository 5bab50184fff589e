"""A read model of the money that moved, which projections fill from the beginning of the log.

The release before goes on beside it and does not write it; the projection reads the log by a cursor of its own.

Revision: 0013, after 0012.
"""

import sqlalchemy as sa
from alembic import op

revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        'money_movement',
        sa.Column('booking_id', sa.Uuid(), primary_key=True),
        sa.Column('sequence', sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column('hotel_id', sa.BigInteger(), nullable=True),
        sa.Column('time', sa.DateTime(timezone=True), nullable=False),
        sa.Column('kind', sa.Text(), nullable=False),
        sa.Column('payment_intent', sa.Text(), nullable=False),
        sa.Column('object_id', sa.Text(), nullable=False),
        sa.Column('amount_minor', sa.BigInteger(), nullable=False),
        sa.Column('change_minor', sa.BigInteger(), nullable=False),
        sa.Column('currency', sa.Text(), nullable=False),
        sa.Column('pays_booking', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    )
    op.create_index('money_movement_hotel', 'money_movement', ['hotel_id', 'time', 'booking_id', 'sequence'])


def downgrade() -> None:
    """Take back."""
    op.drop_table('money_movement')
