"""Settings of reconciliation, from the environment: how often it reads Stripe's list, and how often it compares."""

from pydantic import Field

from workers.stripe.settings import StripeSettings


class ReconciliationSettings(StripeSettings):
    """Reconciliation's settings, beside those about Stripe."""

    reconciliation_events_seconds: float = Field(
        default=60.0,
        gt=0,
        # The alert `NotReconciled` waits for five minutes: twice this time must be less.
        le=120,
        description="Seconds between two readings of Stripe's list of events. An event whose webhook has not come for"
        " as long is put on `stripe.webhooks`: a lost webhook is made good within twice this time.",
    )
    reconciliation_compare_seconds: float = Field(
        default=3600.0, gt=0, description="Seconds between two comparisons of the money at Stripe with the bookings."
    )
    reconciliation_compare_days: int = Field(
        default=7, ge=1, description="A comparison looks at bookings that were made within so many days."
    )
