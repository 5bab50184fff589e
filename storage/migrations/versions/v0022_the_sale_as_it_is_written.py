"""`booking.sale` and `booking.stay_times` are `json` and no longer `jsonb`, which PostgreSQL parses for each booking.

0007 and 0009 make them so by now: 0.1.0 has neither column, and no release had them as `jsonb`. A database that was
migrated in between has its table written anew here, under a lock; nothing happens in any other. Stop the workers of such
an unreleased version first: they copy `jsonb` in binary, which the new columns refuse.

Revision: 0022, after 0021.
"""

import sqlalchemy as sa
from alembic import op

revision = '0022'
down_revision = '0021'
branch_labels = None
depends_on = None

_COLUMNS = ('sale', 'stay_times')


def upgrade() -> None:
    """Apply."""
    op.execute("set local lock_timeout = '500ms'")
    columns = sa.inspect(op.get_bind()).get_columns('booking')
    types = {column['name']: type(column['type']).__name__ for column in columns}
    written_anew = [name for name in _COLUMNS if types[name] == 'JSONB']
    if written_anew:
        changes = ', '.join(f'alter column {name} type json using {name}::json' for name in written_anew)
        op.execute(f'alter table booking {changes}')


def downgrade() -> None:
    """Take nothing back: the release before reads neither column."""
