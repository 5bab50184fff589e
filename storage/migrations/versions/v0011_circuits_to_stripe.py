"""The circuit of each payments worker to Stripe, which ingress and operators' tools show.

Revision: 0011, after 0010.
"""

import sqlalchemy as sa
from alembic import op

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        'stripe_circuit',
        sa.Column('worker', sa.Text(), primary_key=True),
        sa.Column('state', sa.Text(), nullable=False),
        sa.Column('since', sa.DateTime(timezone=True), nullable=True),
        sa.Column('reason', sa.Text(), nullable=True),
        sa.Column('seen_at', sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("state in ('closed', 'open', 'half_open')", name='state'),
        sa.CheckConstraint(
            "(state = 'closed') = (since is null) and (since is null) = (reason is null)", name='since'
        ),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table('stripe_circuit')
