"""The reconciliation role: makes lost webhooks good, and compares the money at Stripe with the bookings.

It audits payments and so shares no code with it, except Stripe's terms (`workers.stripe`). Files in the order in which
they are used: `role` (one process leads), `lost_webhooks` (Stripe's list of events against `stripe.webhooks`),
`periodic` and `money` (the comparison, which `innkeeper reconcile` makes too), `bookings` (tables), `stripe_client` and
`ownership` (Stripe), `comparison` and `payment_comparison` (pure), `corrections` (commands and rows that mend).
"""
