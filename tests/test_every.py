"""One test of many cases fails if one of them does."""

import pytest

import every


def test_the_cases_that_fail_are_shown_and_the_others_are_not():
    seen = []

    @every.case_of(['one', 'two', 'three', 'four'])
    def check(word):
        seen.append(word)
        assert 'o' not in word[1:], 'an o'

    with pytest.raises(AssertionError) as failure:
        check()
    assert seen == ['one', 'two', 'three', 'four']
    assert "'two'" in str(failure.value) and "'four'" in str(failure.value)
    assert "'one'" not in str(failure.value) and "'three'" not in str(failure.value)


def test_a_case_of_several_values_is_several_arguments_and_none_is_refused():
    every.case_of([(1, 2), (3, 4)])(lambda a, b: None)()
    with pytest.raises(AssertionError, match='without a case'):
        every.case_of([])
