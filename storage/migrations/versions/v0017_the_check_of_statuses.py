"""The check of bookings' statuses of 0014, which is validated while the release before reads and writes.

Revision: 0017, after 0016.
"""

from alembic import op

revision = '0017'
down_revision = '0016'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.get_context().autocommit_block():
        op.execute('alter table booking validate constraint status')


def downgrade() -> None:
    """Take back: a validated check stays."""
