"""Records to publish are stored as they are: their rows are deleted within seconds, and to compress them takes longer.

Revision: 0019, after 0018. Rows that exist stay as they are and are read alike.
"""

from alembic import op

revision = '0019'
down_revision = '0018'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("set local lock_timeout = '500ms'")
    op.execute('alter table outbox alter column records set storage external')


def downgrade() -> None:
    """Take back."""
    op.execute("set local lock_timeout = '500ms'")
    op.execute('alter table outbox alter column records set storage extended')
