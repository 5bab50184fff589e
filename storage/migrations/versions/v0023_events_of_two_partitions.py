"""Read models of a booking's events have the partition in their key: a sequence counts the events of one partition.

0.1.0 writes `booking_timeline` by the key from before, so the table keeps it where a worker has kept the read model. After
the rollout `innkeeper rebuild booking_timeline --yes` makes the table with the new key. No release had `money_movement`; a
database of a version between releases loses its rows here, and projections write them again from the log.

Revision: 0023, after 0022.
"""

import sqlalchemy as sa
from alembic import op

revision = '0023'
down_revision = '0022'
branch_labels = None
depends_on = None

_INDEX, _BEFORE = 'money_movement_hotel', ('hotel_id', 'time', 'booking_id', 'sequence')
_COLUMNS = ('hotel_id', 'time', 'booking_id', 'partition', 'sequence')


def upgrade() -> None:
    """Apply."""
    op.execute("set local lock_timeout = '500ms'")
    if not _is_any("select from log_cursor where consumer = 'booking_timeline'"):
        _change_key('booking_timeline', 'partition')
    if _is_any('select from money_movement'):
        op.execute("delete from log_cursor where consumer = 'money_movements'")
        op.execute('truncate money_movement')
    op.add_column('money_movement', sa.Column('partition', sa.Integer(), nullable=False))
    _change_key('money_movement', 'partition')
    op.drop_index(_INDEX, 'money_movement')
    op.create_index(_INDEX, 'money_movement', _COLUMNS)


def downgrade() -> None:
    """Take back. Of events of one sequence the read models keep the first."""
    for table in ('booking_timeline', 'money_movement'):
        op.execute(
            f'delete from {table} as later using {table} as first'
            ' where (later.booking_id, later.sequence) = (first.booking_id, first.sequence)'
            ' and (later.time, later.partition) > (first.time, first.partition)'
        )
        _change_key(table)
    op.alter_column('booking_timeline', 'partition', nullable=True)
    op.drop_index(_INDEX, 'money_movement')
    op.drop_column('money_movement', 'partition')
    op.create_index(_INDEX, 'money_movement', _BEFORE)


def _change_key(table: str, *more: str) -> None:
    name = f'{table}_pkey'
    op.drop_constraint(name, table, type_='primary')
    op.create_primary_key(name, table, ('booking_id', *more, 'sequence'))


def _is_any(query: str) -> bool:
    return bool(op.get_bind().scalar(sa.text(f'select exists ({query})')))
