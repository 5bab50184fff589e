"""The outbox and generations of topics get their names; the rows stay.

Revision: 0004, after 0003.
"""

from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None

_TABLES = (('outcome', 'outbox'), ('topic_incarnation', 'topic_generation'))
_WITH_GENERATION = ('log_cursor', 'outbox', 'dead_letter')


def upgrade() -> None:
    """Apply."""
    for was, now in _TABLES:
        op.rename_table(was, now)
        op.execute(f'alter index {was}_pkey rename to {now}_pkey')
    op.execute('alter index topic_incarnation_topic rename to topic_generation_topic')
    op.execute('alter sequence topic_incarnation_id_seq rename to topic_generation_id_seq')
    for table in _WITH_GENERATION:
        op.alter_column(table, 'incarnation', new_column_name='generation')


def downgrade() -> None:
    """Take back."""
    for table in _WITH_GENERATION:
        op.alter_column(table, 'generation', new_column_name='incarnation')
    op.execute('alter sequence topic_generation_id_seq rename to topic_incarnation_id_seq')
    op.execute('alter index topic_generation_topic rename to topic_incarnation_topic')
    for was, now in _TABLES:
        op.execute(f'alter index {now}_pkey rename to {was}_pkey')
        op.rename_table(now, was)
