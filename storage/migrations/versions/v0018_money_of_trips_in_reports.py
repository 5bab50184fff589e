"""The money of trips that reports divide among their legs: a table, and of a stay what a trip of it needs.

The release before goes on beside it, and nobody books a trip while it runs. No release had trips before this one. A
database that has trips from a version between releases needs `innkeeper rebuild daily_report --yes`: a trip gets its row
as it or a leg of it is confirmed, or as a stay becomes it, and not from a later event.

Revision: 0018, after 0017.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0018'
down_revision = '0017'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table('reported_trip',
    sa.Column('trip_id', sa.Uuid(), nullable=False),
    sa.Column('payment_intent', sa.Text(), nullable=True),
    sa.Column('payments', postgresql.JSONB(), nullable=True),
    sa.Column('leg_ends', postgresql.JSONB(), nullable=True),
    sa.Column('refunds', postgresql.JSONB(), nullable=True),
    sa.Column('deductions', postgresql.JSONB(), nullable=True),
    sa.Column('closings', postgresql.JSONB(), nullable=True),
    sa.PrimaryKeyConstraint('trip_id', name=op.f('reported_trip_pkey'))
    )
    op.add_column('reported_stay', sa.Column('refunds', postgresql.JSONB(), nullable=True))
    op.add_column('reported_stay', sa.Column('closings', postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    """Take back. Reports count legs without what left the payment of their trip."""
    op.drop_column('reported_stay', 'closings')
    op.drop_column('reported_stay', 'refunds')
    op.drop_table('reported_trip')
