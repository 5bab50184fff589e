"""The way in: HTTP requests become commands on the log, and what the ledger says becomes answers.

It knows no business rule: it checks who asks and whether a request makes sense, and leaves every decision to the
room's owner.

Each area of the interface has a package: `accounts`, `hotels`, `bookings`, `admin`, `operators`, `documents` (and
`webhooks`); they do not import each other. Their methods are rows of the table in `operations`, and they share `log`,
`limits`, `stays`, `tokens`, `database` and, below all of it, `http`. `application` puts everything together.
"""
