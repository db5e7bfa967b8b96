"""One test of many cases: what a test costs in pytest is more than most checks of a text cost."""


def case_of(cases):
    """Makes a test of a check of one case, as a decorator.

    The test calls the check with every case. It fails if one of them fails, and then shows all that
    do, each with its message. Cases are tuples if the check has several arguments.
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
            if failed:
                raise AssertionError(
                    '\n'.join(f'{case!r}: {told}' for case, told in failed.items())
                )

        test.__name__, test.__doc__, test.__module__ = (
            check.__name__,
            check.__doc__,
            check.__module__,
        )
        return test

    return decorate
