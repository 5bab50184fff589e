"""How the state machines of the core are played."""

from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def play(
    machine: type[RuleBasedStateMachine],
    examples: int,
    *,
    steps: int = 40,
    phases: Sequence[Phase] = tuple(Phase),
    fixed: bool = True,
) -> None:
    """Let Hypothesis play so many games of so many steps.

    `fixed` plays the same ones every time, and so does the profile "repeatable"; all others choose new ones.
    """
    run_state_machine_as_test(machine, settings=_settings(examples, steps, phases, fixed=fixed))


def _settings(examples: int, steps: int, phases: Sequence[Phase], *, fixed: bool) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        phases=phases,
        derandomize=fixed or settings().derandomize,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
