"""Chooses how long the broker may wait for new records before it answers a fetch of aiokafka's consumer with none.

A long wait costs nothing while there is nothing to read, and the broker answers at once when a record comes. But
aiokafka 0.14 has one fetch per broker under way, for the partitions that could be read when it was sent, and a broker
answers the requests of one connection one after the other. So a partition that becomes readable, or is read from
another offset, waits for the end of a fetch that does not include it. Hence two rules: a fetch waits long only if it
asks for every partition, and a seek ends the fetch that is under way.
"""

from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaConsumer

#: The wait of a fetch for all partitions.
IDLE_WAIT_MS: Final = 1000
#: The wait of a fetch for some of them, while others are paused or have records that the agent has not taken.
PARTIAL_WAIT_MS: Final = 20
_FETCH_API_KEY: Final = 1


def choose_fetch_wait(consumer: AIOKafkaConsumer) -> None:
    """Make a started consumer choose the wait of each fetch; it has one setting for all of them."""
    fetcher = consumer._fetcher  # noqa: SLF001 - aiokafka has no hook before a fetch
    fetcher._get_actions_per_node = partial(_next_actions, fetcher, fetcher._get_actions_per_node)  # noqa: SLF001 - as above


def _next_actions(fetcher: Any, get_actions: Any, assignment: Any) -> Any:
    requested = (_is_requested(fetcher, assignment, partition) for partition in assignment.tps)
    is_whole = not fetcher._records and all(requested)  # noqa: SLF001 - as above
    fetcher._fetch_max_wait_ms = IDLE_WAIT_MS if is_whole else PARTIAL_WAIT_MS  # noqa: SLF001 - as above
    return get_actions(assignment)


def _is_requested(fetcher: Any, assignment: Any, partition: Any) -> bool:
    state = assignment.state_value(partition)
    if state.paused or not state.has_valid_position:
        return False
    # A partition without a leader is left out until the metadata names one.
    return fetcher._select_read_replica(partition) not in {None, -1}  # noqa: SLF001 - as above


def end_fetches(consumer: AIOKafkaConsumer) -> None:
    """End the fetches that are under way, so that the next ones are sent and answered at once.

    The broker would answer the next request on the same connection only after them, so their connection is closed.
    """
    for connection in tuple(consumer._client._conns.values()):  # noqa: SLF001 - a request cannot be taken back otherwise
        fetches = [future for _, request, future in connection._requests if request.API_KEY == _FETCH_API_KEY]  # noqa: SLF001 - as above
        for fetch in fetches:
            # The fetcher takes a cancelled request as one without records; an error it would log, and wait.
            fetch.cancel()
        if fetches:
            connection.close()
