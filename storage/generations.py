"""An operator's decision to go on with a log that is not the one the cursors knew."""

from typing import Final

from storage.database import connect_sync
from storage.settings import DatabaseSettings

EXPLANATION: Final = """\
A new generation of {topic} makes every consumer of it leave its cursors where they are \
and begin new ones at the start of what stands on the log now.
- What a consumer committed and had not published yet is published first: nothing that was decided is lost.
- Records that stand on the log and were applied before are applied again. A repeated command changes nothing where \
its effect stands already; a read model takes up only what it does not have.
- Records that were on the lost part of the log and not applied yet are gone; whoever sent them must send them again.
- Stop every worker that reads {topic} before, and start them after: running workers learn of it only then."""


class NoLifeYet(Exception):
    """No worker has read this topic yet, so it has no cursor."""


# The broker's topic is the same one; a later row with its id is a new generation all the same.
_BEGIN = """
insert into topic_generation (topic, broker_id)
select topic, broker_id from topic_generation where topic = %s order by id desc limit 1
returning id
"""


def begin(settings: DatabaseSettings, topic: str) -> int:
    """Begin the topic's next generation and return its number. `topic` is the name on the broker.

    Raises:
        NoLifeYet: the topic has had no generation so far.
        psycopg.Error: the database cannot be written.
    """
    with connect_sync(settings, "innkeeper new-generation", autocommit=False) as connection:
        connection.execute("select pg_advisory_xact_lock(hashtext('innkeeper.generation'))")
        begun = connection.execute(_BEGIN, (topic,)).fetchone()
        if begun is None:
            known = connection.execute("select distinct topic from topic_generation order by topic").fetchall()
            names = ", ".join(name for (name,) in known) or "none"
            raise NoLifeYet(f"No worker has read a topic {topic} yet; there is nothing to leave. Known: {names}.")
    return int(begun[0])
