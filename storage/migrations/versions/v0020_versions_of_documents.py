"""The version of the booking whose money a document follows: a column.

Documents from before have version 0, so that every later command may follow them. The table is not read or written as a
whole, so that its lock lasts milliseconds.

Revision: 0020, after 0019.
"""

import sqlalchemy as sa
from alembic import op

revision = '0020'
down_revision = '0019'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("set local lock_timeout = '500ms'")
    op.add_column('hotel_document', sa.Column('booking_version', sa.BigInteger(), nullable=False, server_default='0'))
    op.alter_column('hotel_document', 'booking_version', server_default=None)


def downgrade() -> None:
    """Take back."""
    op.drop_column('hotel_document', 'booking_version')
