"""Prints a table of what this program has in common with the original code.

For each claim, the table has the number of references that it was checked against, and the worst
error.

    make faithful

runs the tests behind each claim on TensorFlow 1.13.2 and on 2.x. By hand: `python
tests/golden/faithful.py run OUT.json` in each environment, then `python tests/golden/faithful.py
table OUT.json ...`.
"""

import argparse
import collections
import json
import os
import sys

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# allowed: the largest relative error on (1.13.2, 2.x). None: compared exactly.
Claim = collections.namedtuple('Claim', ['text', 'allowed'])
NUMBERS = (1e-5, 1e-4)

# The key is the name in `@pytest.mark.claim(name)` of the tests behind a claim.
CLAIMS = {
    'fc': Claim(
        'one step of fc, 13 rules and options: outputs, losses, gradients, angles', NUMBERS
    ),
    'conv': Claim('one step of a convolutional network, 6 rules', NUMBERS),
    'resnet18': Claim('one step of ResNet-18, and its moving statistics', NUMBERS),
    'updates': Claim('three updates of fc by 5 optimisers, with every slot', (1e-5, 1e-5)),
    'variables': Claim('variables of every network: name, shape, type', None),
    'original checkpoints': Claim(
        "checkpoints of the original's form: a file, GridFS, restored and trained on", NUMBERS
    ),
    'own checkpoints': Claim(
        'checkpoints that this program wrote on TensorFlow 1.13.2 and 2.21', (1e-4, 1e-4)
    ),
    'settings': Claim("settings in files of the authors' form, dill 0.3.1.1 and 0.3.5.1", None),
    'hostile settings': Claim(
        'hostile, crafted and damaged settings files: nothing is executed, nothing crashes', None
    ),
    'records': Claim('records in the layout of tfutils', None),
    'queries': Claim('queries of docs/database.md', None),
    'restoring': Claim('restoring by path, step, newest, query and place', None),
    'tfutils': Claim('calls of tfutils: a script with its own model, and plain data', None),
    'flags': Claim('flags that have their effect, or are refused with the reason', None),
}


def claims_of(item):
    """Returns the names of the claims that a test supports.

    Raises:
        UsageError: The table has no claim of that name.
    """
    names = [mark.args[0] for mark in item.iter_markers('claim')]
    unknown = sorted(set(names) - set(CLAIMS))
    if unknown:
        raise pytest.UsageError(f'{item.nodeid} is behind {unknown}, which are no claims')
    return names


class Collector:
    """A pytest plugin that runs only the tests behind the claims, and collects what they report."""

    def __init__(self):
        self.results = {
            name: dict(references=0, error=None, failed=[], passed=0) for name in CLAIMS
        }
        self._claims = {}  # {nodeid of a test: its claims}

    def pytest_collection_modifyitems(self, items):
        """Deselects the tests that support no claim."""
        self._claims = {item.nodeid: claims_of(item) for item in items}
        items[:] = [item for item in items if self._claims[item.nodeid]]

    def pytest_runtest_logreport(self, report):
        """Adds the result of a test to its claims."""
        if report.when != 'call' and report.passed:
            return
        properties = dict(report.user_properties)
        for name in self._claims[report.nodeid]:
            result = self.results[name]
            if not report.passed:
                result['failed'].append(report.nodeid)
            elif report.when == 'call':
                result['passed'] += 1
                result['references'] += properties.get('references', 1)
                if 'error' in properties:
                    errors = result['error'] or 0.0, float(properties['error'])
                    result['error'] = float(np.max(errors))  # NaN if one of them is NaN


def run(out):
    """Runs the tests in this environment and writes their results. Returns the exit code."""
    collector = Collector()
    code = pytest.main(
        ['-q', '--no-header', '--disable-warnings', '--rootdir', ROOT, os.path.join(ROOT, 'tests')],
        plugins=[collector],
    )
    from training import runtime

    with open(out, 'w') as file:
        json.dump(
            dict(
                runtime=runtime.describe().partition(' on ')[0],
                modern=runtime.IS_TF2,
                results=collector.results,
            ),
            file,
        )
    return int(code)


def table(paths):
    """Prints the table of the results of several runs, with one column for each runtime.

    Returns 1 if a claim failed or was not checked, else 0.
    """
    runs = []
    for path in paths:
        with open(path) as file:
            runs.append(json.load(file))
    titles = ['claim', 'references'] + [
        'worst error on {} (allowed)'.format(done['runtime']) for done in runs
    ]
    print('| {} |\n|{}'.format(' | '.join(titles), '---|' * len(titles)))
    for name, claim in CLAIMS.items():
        results = [done['results'][name] for done in runs]
        references = ', '.join(sorted({'{:,}'.format(result['references']) for result in results}))
        cells = [
            _cell(result, claim.allowed and claim.allowed[done['modern']])
            for result, done in zip(results, runs)
        ]
        print('| {} |'.format(' | '.join([claim.text, references] + cells)))
    return int(any(_is_broken(result) for done in runs for result in done['results'].values()))


def _is_broken(result):
    return bool(result['failed']) or not result['passed']


def _cell(result, allowed):
    if _is_broken(result):
        return 'FAILED' if result['failed'] else 'NOT CHECKED'
    return 'none' if allowed is None else '{:.1e} ({:.0e})'.format(result['error'], allowed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=('run', 'table'))
    parser.add_argument('files', nargs='+', metavar='JSON')
    arguments = parser.parse_args()
    return run(arguments.files[0]) if arguments.what == 'run' else table(arguments.files)


if __name__ == '__main__':
    sys.exit(main())
