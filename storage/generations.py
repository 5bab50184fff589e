"""An operator's decision to continue with a log that is not the one that the cursors know."""

from typing import Final

from storage.database import connect_sync
from storage.settings import DatabaseSettings

EXPLANATION: Final = """\
A new generation of {topic} makes every consumer of it leave its cursors and begin new ones at the first record that \
the log has now.
- Records that a consumer committed and did not publish yet are published first: no decision is lost.
- Records that the log has and that were applied before are applied again. A command that had its effect has none \
again; a read model ignores events that it has.
- Records of the lost part of the log that were not applied yet are gone; their senders must send them again.
- Stop every worker that reads {topic} before, and start them after: a running worker does not notice it."""


class NoGenerationYet(Exception):
    """No worker has read this topic yet, so there is no cursor to leave."""


# The broker's id of the topic stays the same; a second row with it is a new generation all the same.
_NEXT_GENERATION = """
insert into topic_generation (topic, broker_id)
select topic, broker_id from topic_generation where topic = %s order by id desc limit 1
returning id
"""


def begin(settings: DatabaseSettings, topic: str) -> int:
    """Begin the topic's next generation and return its number. `topic` is the name on the broker.

    Raises:
        NoGenerationYet: the topic has had no generation so far.
        psycopg.Error: the database cannot be written.
    """
    with connect_sync(settings, "innkeeper new-generation", autocommit=False) as connection:
        connection.execute("select pg_advisory_xact_lock(hashtext('innkeeper.generation'))")
        begun = connection.execute(_NEXT_GENERATION, (topic,)).fetchone()
        if begun is None:
            known = connection.execute("select distinct topic from topic_generation order by topic").fetchall()
            names = ", ".join(name for (name,) in known) or "none"
            raise NoGenerationYet(f"No worker has read a topic {topic} yet; there is nothing to leave. Known: {names}.")
    return int(begun[0])
