"""A pending call keeps the operator who made it due, until its command is sent; rows from before have none.

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None

_TABLES = ('checkout_session', 'refund')


def upgrade() -> None:
    """Apply."""
    for table in _TABLES:
        op.add_column(table, sa.Column('actor', sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back."""
    for table in _TABLES:
        op.drop_column(table, 'actor')
