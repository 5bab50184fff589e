"""Decisions about changes of a stay: other dates, another number of rooms, other people."""

from datetime import datetime

from topics.messages.commands import ChangeStay, WithdrawChange
from topics.messages.events import Event
from topics.messages.values import Refusal
from workers.decisions.answers import refused
from workers.decisions.state import State


def change_stay(state: State, command: ChangeStay, now: datetime) -> tuple[Event, ...]:
    """Swap the nights of the stay at once, hold a dearer change, or refuse it."""
    return refused(state.booking, command, Refusal.WRONG_STATUS)


def withdraw_change(state: State, command: WithdrawChange, now: datetime) -> tuple[Event, ...]:
    """Give up a change that is not paid."""
    return refused(state.booking, command, Refusal.NO_SUCH_CHANGE)
