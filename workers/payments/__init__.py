"""The payments role: decisions about money become calls to Stripe, and Stripe's answers and webhooks become commands.

The reader follows a payment through `pending_calls` (events -> calls), `consumer` (the fenced transaction), `caller`
and `steps` (the calls are made), `webhooks` (Stripe's objects -> commands). Stripe's terms are in
`workers.stripe`, which the role `reconciliation` knows too.
"""

from storage.settings import DatabaseSettings
from topics.kafka.settings import KafkaSettings
from workers.payments.caller import Caller
from workers.payments.consumer import Payments
from workers.payments.settings import PaymentSettings
from workers.runtime.role import Role


def build(kafka: KafkaSettings, database: DatabaseSettings, settings: PaymentSettings | None = None) -> Role:
    """Return the role; its own settings are read from the environment unless given."""
    own = settings or PaymentSettings()
    caller = Caller(kafka, database, own)
    return Role(name="payments", consumers=(Payments(kafka, own),), background=caller.run, committed=caller.wake)
