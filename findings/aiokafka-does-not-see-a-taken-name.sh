#!/usr/bin/env bash
# aiokafka 0.14.0: a consumer with a `group_instance_id` does not see that another process has taken its name.
#
# The broker answers a member whose name was taken FENCED_INSTANCE_ID (82). aiokafka has no error for that code, and its
# heartbeats and commits carry no name, so that the broker answers UNKNOWN_MEMBER_ID to them, as after an ended session.
# The member then forgets its id and joins under its name anew, which throws the other one out: two consumers of one name
# replace each other for ever. A member that sends its old id once more with the name gets the broker's real answer.
# And a consumer with two assignors joins once for each, the first time with the first assignor alone: a group cannot be
# moved from one assignor to another member by member, as Kafka's own clients allow.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check aiokafka==0.14.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
import sys
from importlib.metadata import version
from types import SimpleNamespace

from aiokafka import errors
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest

logging.disable()
sent = []


async def answer(request):
    sent.append([name for name, _ in request._group_protocols])
    return SimpleNamespace(error_code=15)


member = SimpleNamespace(
    member_id="", _group_instance_id="one", _rebalance_timeout_ms=1, _send_req=answer, coordinator_dead=lambda: None
)
group = CoordinatorGroupRebalance(
    member,
    "group",
    1,
    SimpleNamespace(topics={"topic"}, active=True),
    (RoundRobinPartitionAssignor, StickyPartitionAssignor),
    1,
    1,
)
asyncio.run(group.perform_group_join())
heartbeat = vars(HeartbeatRequest("group", 1, "id")).keys()
join = vars(JoinGroupRequest("group", 1, 1, "id", "one", "consumer", [])).keys()
print("aiokafka", version("aiokafka"))
print("error 82 is", errors.for_code(82).__name__)
print("a request to join names", sorted(join))
print("a heartbeat names", sorted(heartbeat))
print("two assignors: requests to join with", sent)
as_found = (
    errors.for_code(82) is errors.UnknownError
    and "_group_instance_id" in join
    and "_group_instance_id" not in heartbeat
    and sent == [["roundrobin"], ["roundrobin", "sticky"]]
)
sys.exit(0 if as_found else 1)
PYTHON
