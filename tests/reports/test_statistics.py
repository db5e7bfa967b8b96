"""Tests of reports.statistics against tables and against SciPy's own tests."""

import math

import numpy as np
import pytest
from scipy import stats

from reports import statistics

VALUES = [0.91, 0.93, 0.955, 0.9, 0.92]


@pytest.mark.parametrize(
    'degrees, t', [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042)]
)
def test_quantiles_are_those_of_the_tables(degrees, t):
    assert statistics.quantile(degrees) == pytest.approx(t, abs=5e-4)


def test_a_summary_holds_mean_deviation_and_interval():
    found = statistics.summary(VALUES)
    assert found.n == 5 and found.mean == pytest.approx(np.mean(VALUES), rel=1e-15)
    assert found.std == pytest.approx(np.std(VALUES, ddof=1), rel=1e-14)
    half = 2.7764451 * np.std(VALUES, ddof=1) / np.sqrt(5)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    assert (found.median, found.least, found.most) == (0.92, 0.9, 0.955)


def test_one_value_has_no_spread_and_none_has_no_mean():
    one, none = statistics.summary([0.5]), statistics.summary([])
    assert (one.n, one.mean, one.median) == (1, 0.5, 0.5)
    assert none.n == 0 and math.isnan(none.mean) and math.isnan(none.median)
    assert all(math.isnan(value) for each in (one, none) for value in each[2:5])


@pytest.mark.parametrize('values', [[0.5, math.nan, 0.7], [math.nan, 0.5, 0.7]])
def test_a_value_that_is_not_a_number_is_not_left_out(values):
    assert all(math.isnan(value) for value in statistics.summary(values)[1:])


def test_pairs_are_those_that_both_have():
    first, second = {1: 0.9, 2: 0.8, 3: 0.7}, {2: 0.75, 3: 0.6, 4: 0.1}
    found = statistics.paired(first, second)
    assert found == statistics.summary([first[2] - second[2], first[3] - second[3]])
    assert found.n == 2 and found.mean == pytest.approx(0.075)


def test_welch_is_scipys_test():
    first, second = VALUES, [0.85, 0.86, 0.99]
    found = statistics.welch(first, second)
    p = stats.ttest_ind(first, second, equal_var=False).pvalue
    error = math.sqrt(np.var(first, ddof=1) / 5 + np.var(second, ddof=1) / 3)
    t = found['difference'] / error
    assert 2 * stats.t.sf(abs(t), found['degrees']) == pytest.approx(p, rel=1e-10)
    half = stats.t.ppf(0.975, found['degrees']) * error
    assert found['high'] - found['difference'] == pytest.approx(half)
    assert found['difference'] - found['low'] == pytest.approx(half)
    assert statistics.welch([0.5, 0.5], [0.25, 0.25])['low'] == 0.25
