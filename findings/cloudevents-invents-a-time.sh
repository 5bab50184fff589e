#!/usr/bin/env bash
# cloudevents 2.2.0: an event without `time` gets the time at which it is read.
#
# `time` is optional in CloudEvents 1.0. A Kafka record in binary mode that has no `ce_time` is therefore valid. Reading it
# twice gives two events with different times, and writing one back gives a record with a `ce_time`, and a
# `ce_partitionkey`, that the first did not have. A consumer that compares or stores `time` takes its own clock for the
# producer's; ours reads the headers itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cloudevents==2.2.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time
from importlib.metadata import version

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event, to_binary_event

record = KafkaMessage(
    headers={
        "ce_specversion": b"1.0",
        "ce_type": b"room.opened",
        "ce_source": b"/hotel",
        "ce_id": b"1",
        "content-type": b"application/json",
    },
    key=b"7",
    value=b'{"room": 7}',
)
first = from_binary_event(record)
time.sleep(0.01)
second = from_binary_event(record)
written = to_binary_event(first)
added = sorted(set(written.headers) - set(record.headers))
print("cloudevents", version("cloudevents"))
print("read once:  time =", first.get_time())
print("read again: time =", second.get_time())
print("headers added by reading and writing:", added)
sys.exit(0 if first.get_time() != second.get_time() and added == ["ce_partitionkey", "ce_time"] else 1)
PYTHON
