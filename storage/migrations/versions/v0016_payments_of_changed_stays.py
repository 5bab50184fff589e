"""The payments that pay a reported stay, once it was changed: a column.

The release before goes on beside it: it leaves the column empty, and nobody changes a stay while it runs. The table is
not read or written as a whole, so that its lock lasts milliseconds.

Revision: 0016, after 0014.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0016'
down_revision = '0014'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("set local lock_timeout = '500ms'")
    op.add_column('reported_stay', sa.Column('payments', postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    """Take back. Reports deduct refunds of changes that made a stay cheaper once more."""
    op.drop_column('reported_stay', 'payments')
