"""The checks of 0009, which are validated while the release before reads and writes.

Each statement commits by itself.

Revision: 0010, after 0009.
"""

from alembic import op

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None

_CHECKS = (('booking', 'status'), ('inventory', 'never_oversold'), ('inventory', 'allowed_and_blocked'))


def upgrade() -> None:
    """Apply."""
    with op.get_context().autocommit_block():
        for table, name in _CHECKS:
            op.execute(f'alter table {table} validate constraint {name}')


def downgrade() -> None:
    """Take back: a validated check stays."""
