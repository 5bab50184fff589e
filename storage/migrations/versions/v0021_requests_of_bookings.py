"""The hash of the request with an Idempotency-Key that made a booking: a column.

Bookings from before have none. The table is not read or written as a whole, so that its lock lasts milliseconds.

Revision: 0021, after 0020.
"""

import sqlalchemy as sa
from alembic import op

revision = '0021'
down_revision = '0020'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("set local lock_timeout = '500ms'")
    op.add_column('booking', sa.Column('request_hash', sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column('booking', 'request_hash')
