"""One test of many cases: what a test costs in pytest is more than most checks of a text cost."""


def case_of(cases):
    """Makes a test of a check of one case, as a decorator.

    The test calls the check with every case. It fails if one of them fails, and then shows all that
    do, each with its message. Its attribute `check` is the check. Cases are tuples if the check has
    several arguments.
    """
    cases = list(cases)
    assert cases, 'a test without a case would pass'

    def decorate(check):
        def test():
            failed = {}
            for case in cases:
                try:
                    check(*(case if isinstance(case, tuple) else (case,)))
                except AssertionError as error:
                    failed[case] = str(error)
            if failed:  # no assert: pytest shows the values of one in test files alone
                raise AssertionError('\n'.join(f'{case!r}: {why}' for case, why in failed.items()))

        test.check = check
        test.__name__, test.__doc__, test.__module__ = (
            check.__name__,
            check.__doc__,
            check.__module__,
        )
        return test

    return decorate
