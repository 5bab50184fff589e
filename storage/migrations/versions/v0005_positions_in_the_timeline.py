"""The timeline keeps the positions of each event and of its command; rows from before have none.

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None

_COLUMNS = (
    ('topic', sa.Text()),
    ('partition', sa.Integer()),
    ('offset', sa.BigInteger()),
    ('causation_topic', sa.Text()),
    ('causation_partition', sa.Integer()),
    ('causation_offset', sa.BigInteger()),
)


def upgrade() -> None:
    """Apply."""
    for name, kind in _COLUMNS:
        op.add_column('booking_timeline', sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    """Take back."""
    for name, _ in reversed(_COLUMNS):
        op.drop_column('booking_timeline', name)
