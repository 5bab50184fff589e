"""An amount divided into whole minor units by weights, without a remainder."""

from collections.abc import Sequence


def shares_minor(amount_minor: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Return an amount divided in proportion to weights, by the method of largest remainders.

    Every share is rounded down to a minor unit; the units that are left go to the largest fractions, and of equal
    fractions to the first. So the shares sum to the amount, and no share is above its weight if the amount is not above
    their sum.

    Args:
        amount_minor: at least 0, in minor units; 0 if all weights are 0.
        weights: each at least 0, in any unit.
    """
    whole = sum(weights)
    if not whole:
        return (0,) * len(weights)
    if amount_minor == whole:
        return tuple(weights)
    parts = [divmod(amount_minor * weight, whole) for weight in weights]
    left = amount_minor - sum(share for share, _ in parts)
    # The sort is stable: of equal fractions the first goes first.
    raised = set(sorted(range(len(parts)), key=lambda number: -parts[number][1])[:left])
    return tuple(share + (number in raised) for number, (share, _) in enumerate(parts))
