"""The payments role: what the room's owner decides about money becomes calls to Stripe, and Stripe's word commands.

The reader follows a payment through `obligations` (events -> what is owed), `consumer` (the fenced transaction),
`caller` and `steps` (the calls), `webhooks` (Stripe's word -> commands). Nothing outside this package knows Stripe's
words.
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
