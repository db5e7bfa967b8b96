"""Statistics over the runs of a group, such as the seeds of one setting."""

import math
import statistics
from typing import Dict, Hashable, Mapping, NamedTuple, Sequence, TypeVar

from scipy import special

Key = TypeVar('Key', bound=Hashable)

CONFIDENCE = 0.95


class Summary(NamedTuple):
    """What n independent values say about their mean.

    Attributes:
        n: How many values there are.
        mean: Their mean; NaN without values.
        std: Their standard deviation with n - 1 in the denominator; NaN for fewer than two values.
        low: The lower end of the 95 % confidence interval of the mean by Student's t distribution
            with n - 1 degrees of freedom; NaN for fewer than two values.
        high: The upper end of this interval.
        median: Their median; NaN without values.
        least: The smallest value; NaN without values.
        most: The largest value; NaN without values.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float
    median: float
    least: float
    most: float


def summary(values: Sequence[float]) -> Summary:
    """Summarises values, such as the top-1 of several seeds.

    Values that are not finite count like all others: they make the results NaN or infinite, so that
    a run that diverged cannot be overlooked.
    """
    n = len(values)
    if not n:
        return Summary(0, *[math.nan] * 7)
    mean = math.fsum(values) / n
    order = [statistics.median(values), min(values), max(values)]
    if any(math.isnan(value) for value in values):
        order = [math.nan] * 3
    if n == 1:
        return Summary(1, mean, math.nan, math.nan, math.nan, *order)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = quantile(n - 1) * std / math.sqrt(n)
    return Summary(n, mean, std, mean - half, mean + half, *order)


def quantile(degrees: float) -> float:
    """Returns t such that a Student's t variable lies in (-t, t) with 95 % probability.

    Args:
        degrees: The degrees of freedom, positive. They need not be whole.
    """
    return float(special.stdtrit(degrees, (1.0 + CONFIDENCE) / 2.0))


def paired(first: Mapping[Key, float], second: Mapping[Key, float]) -> Summary:
    """Summarises the differences first - second over the keys, such as seeds, that both have."""
    shared = [key for key in first if key in second]
    return summary([first[key] - second[key] for key in shared])


def welch(first: Sequence[float], second: Sequence[float]) -> Dict[str, float]:
    """Compares the means of two independent samples, whose variances may differ.

    Args:
        first: At least two values.
        second: At least two values.

    Returns:
        {'difference': mean of first - mean of second, 'low', 'high': the ends of its 95 % interval
        by Welch's t distribution, 'degrees': the degrees of freedom of Welch and Satterthwaite}.
    """
    one, other = summary(first), summary(second)
    parts = [one.std**2 / one.n, other.std**2 / other.n]
    error = sum(parts)
    difference = one.mean - other.mean
    if error == 0.0:
        return dict(difference=difference, low=difference, high=difference, degrees=math.inf)
    degrees = error**2 / (parts[0] ** 2 / (one.n - 1) + parts[1] ** 2 / (other.n - 1))
    half = quantile(degrees) * math.sqrt(error)
    return dict(
        difference=difference, low=difference - half, high=difference + half, degrees=degrees
    )
