"""Rounding of amounts to the step between the amounts that can be charged in a currency."""


def half_up(numerator: int, denominator: int, step_minor: int) -> int:
    """Return `numerator / denominator` (minor units, not negative) rounded half-up to a multiple of a step."""
    parts = denominator * step_minor
    return (2 * numerator + parts) // (2 * parts) * step_minor
