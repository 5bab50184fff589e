"""The way in: HTTP requests become commands on the log, and what the ledger says becomes answers.

It knows no business rule: it checks who asks and whether a request makes sense, and leaves every decision to the
room's owner.
"""
