"""A table of what this program claims to have in common with the original: how many references a
claim was checked on, and the worst error.

    make faithful

runs the tests behind each claim on TensorFlow 1.13.2 and on 2.x. By hand: `python
tests/golden/faithful.py run OUT.json` in each environment, then `python tests/golden/faithful.py
table OUT.json ...`.
"""

import argparse
import collections
import json
import os
import re
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# tests: (file, pattern that their names have) of the tests behind a claim. allowed: the largest
# relative error, (1.13.2, 2.x).
Claim = collections.namedtuple('Claim', ['text', 'tests', 'allowed'])
NUMBERS = (1e-5, 1e-4)
STEP = ('tests/golden/test_golden_numbers.py', 'gives_the_numbers_of_the_original.{}_')
LEGACY = 'tests/config/test_authors.py'

CLAIMS = [
    Claim(
        'one step of fc, 13 rules and options: outputs, losses, gradients, angles',
        [(STEP[0], STEP[1].format('fc'))],
        NUMBERS,
    ),
    Claim(
        'one step of a convolutional network, 6 rules', [(STEP[0], STEP[1].format('conv'))], NUMBERS
    ),
    Claim(
        'one step of ResNet-18, and its moving statistics',
        [(STEP[0], STEP[1].format('resnet18'))],
        NUMBERS,
    ),
    Claim(
        'three updates of fc by 5 optimisers, with every slot',
        [('tests/training/test_experiment.py', 'three_updates_are_those')],
        (1e-5, 1e-5),
    ),
    Claim(
        'variables of every network: name, shape, type',
        [('tests/golden/test_variable_tables.py', '')],
        None,
    ),
    Claim(
        "checkpoints of the original's form: a file, GridFS, restored and trained on",
        [('tests/golden/test_original_checkpoints.py', '')],
        NUMBERS,
    ),
    Claim(
        'checkpoints that TensorFlow 1.13.2 and 2.21 wrote, here',
        [('tests/cli/test_golden_checkpoints.py', 'goes_on_as_it_did')],
        (1e-4, 1e-4),
    ),
    Claim(
        "settings in the authors' configurations, dill 0.3.1.1 and 0.3.5.1",
        [(LEGACY, 'gives_the_settings')],
        None,
    ),
    Claim(
        'hostile, crafted and damaged configurations: none runs, none crashes',
        [
            (LEGACY, 'hostile|crafted|garbled|would_run'),
            ('tests/config/test_params.py', 'refused|not_executed|not_fetched'),
        ],
        None,
    ),
    Claim(
        'records in the layout of tfutils', [('tests/cli/test_train.py', 'layout_of_tfutils')], None
    ),
    Claim(
        'queries of the README',
        [('tests/database/test_readme_queries.py', 'gives_the_answer')],
        None,
    ),
    Claim(
        'restoring by path, step, newest, query and place',
        [
            ('tests/cli/test_validate.py', 'is_that_of_the_training'),
            ('tests/cli/test_train.py', 'starts_from_a_checkpoint'),
        ],
        None,
    ),
    Claim(
        "tfutils' calls: a script of an own model, and plain data", [('tests/tfutils', '')], None
    ),
    Claim(
        'flags that have their effect, or are refused with the reason',
        [('tests/training/test_every_flag.py', '')],
        None,
    ),
]


class Collector:
    """A pytest plugin: runs the tests behind the claims alone, and gathers what they report."""

    def __init__(self):
        self.results = [dict(references=0, error=None, failed=[], passed=0) for _ in CLAIMS]

    def pytest_collection_modifyitems(self, items):
        """Leaves out what is behind no claim."""
        items[:] = [item for item in items if self._claims(item.nodeid)]

    def pytest_runtest_logreport(self, report):
        """Adds a test to its claims."""
        if report.when != 'call' and report.passed:
            return
        properties = dict(report.user_properties)
        for index in self._claims(report.nodeid):
            result = self.results[index]
            if not report.passed:
                result['failed'].append(report.nodeid)
            elif report.when == 'call':
                result['passed'] += 1
                result['references'] += properties.get('references', 1)
                if 'error' in properties:
                    result['error'] = max(result['error'] or 0.0, float(properties['error']))

    @staticmethod
    def _claims(nodeid):
        path, _, name = nodeid.partition('::')
        return [
            index
            for index, claim in enumerate(CLAIMS)
            if any(
                path.startswith(file) and re.search(pattern, name) for file, pattern in claim.tests
            )
        ]


def run(out):
    """Run the tests in this environment and write what they gave; returns the exit code."""
    collector = Collector()
    paths = sorted({os.path.join(ROOT, file) for claim in CLAIMS for file, _ in claim.tests})
    code = pytest.main(
        ['-q', '--no-header', '-p', 'no:warnings', '--rootdir', ROOT] + paths, plugins=[collector]
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
    """Print the table of what runs gave, a column a runtime; returns 1 if a claim failed or was not
    checked, else 0.
    """
    runs = []
    for path in paths:
        with open(path) as file:
            runs.append(json.load(file))
    titles = ['claim', 'references'] + [
        'worst error on {} (allowed)'.format(done['runtime']) for done in runs
    ]
    print('| {} |\n|{}'.format(' | '.join(titles), '---|' * len(titles)))
    for index, claim in enumerate(CLAIMS):
        results = [done['results'][index] for done in runs]
        references = ', '.join(sorted({'{:,}'.format(result['references']) for result in results}))
        cells = [
            _cell(result, claim.allowed and claim.allowed[done['modern']])
            for result, done in zip(results, runs)
        ]
        print('| {} |'.format(' | '.join([claim.text, references] + cells)))
    return int(any(_is_broken(result) for done in runs for result in done['results']))


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
