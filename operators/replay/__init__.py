"""Replays a range of the log: to its topic (commands, webhooks), or to one consumer of ours (events).

Commands and webhooks are sent to their topic again with the same ids, so their consumer meets ids that it knows: a
command that had its effect has none again. Each id of a range is sent once, however often the range has it; otherwise a
range that is replayed twice would double each time. Each record that is sent again has a header that names the replay.
Events are never sent again; the cursor of one consumer is set back instead.
"""

from operators.replay.ranges import Refused, ReplayRange
from operators.replay.rewinding import REWIND_EFFECTS, CursorRewind, RewindEffect, plan_rewind, rewind
from operators.replay.sending import Effects, Plan, ReplayResult, plan_replay, run_replay

__all__ = [
    "REWIND_EFFECTS",
    "CursorRewind",
    "Effects",
    "Plan",
    "Refused",
    "ReplayRange",
    "ReplayResult",
    "RewindEffect",
    "plan_replay",
    "plan_rewind",
    "rewind",
    "run_replay",
]
