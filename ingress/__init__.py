"""The ingress: HTTP requests become commands on the log; responses are read from the ledger and the read models.

It has no business rule: it checks the caller and whether a request makes sense, and leaves every decision to the
reservations worker that the room's partition is assigned to.

Each area of the interface has a package (`accounts`, `hotels`, `bookings`, `admin`, `operators`, `webhooks`,
`documents`) with `models` for bodies and responses and `handlers` for the operations; areas do not import each other.
`operations` defines an operation: its rows are the methods with `@operation(...)` in the areas' handlers. The areas
share `log`, `limits`, `stays`, `tokens`, `database` and, below all of it, `http`. `application` puts everything
together.
"""
