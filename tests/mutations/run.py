"""Puts each mutation into a copy of a tree, and runs the tests until one detects it.

    python tests/mutations/run.py                      every mutation that was written by hand
    python tests/mutations/run.py --drawn 60 --seed 1  mutations that a seed draws
    python tests/mutations/run.py 'MNIST by 256'       some of them
    python tests/mutations/run.py --tree DIR --column before --tiers all   another checkout

In each tier, the tests of the mutated package run first (those of the mutated file before the
others), and then all other tests. A test counts only if, on its own, it fails with the mutation and
passes without it; a test that does not is left out and reported. A mutation is also caught if it
keeps a test from ending within --silence seconds. The results are written to results.csv in this
folder.

Tests of the source text, and the tests of the mutations, do not count: they do not check what the
program does. This needs Python 3.11.
"""

import argparse
import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import by_hand
import operators
from mutation import Mutation, Sources, apply

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RESULTS = os.path.join(HERE, 'results.csv')
COLUMNS = ('mutation', 'where', 'what', 'before', 'after')
TIERS = {
    'fast': 'not slow and not nightly',
    'slow': 'slow and not nightly',
    'nightly': 'nightly',
    'all': '',
}
LEFT_OUT = ('tests/mutations', 'tests/test_architecture.py', 'tests/docs/test_containers.py')
SUMMARY = re.compile(r'^(?:FAILED|ERROR) (tests/\S.*?)(?: - .*)?$', re.MULTILINE)
STARTED = re.compile(r'^(tests/\S+::.+?) *(?:[A-Z]+ +\[ *\d+%\])?$', re.MULTILINE)
COST = re.compile(r'^ *([\d.]+)s (?:call|setup|teardown) +(tests/[^:]+)::', re.MULTILINE)
PASSED = re.compile(r'^(tests/\S+::.+?) PASSED', re.MULTILINE)
NO_TESTS = 5  # the exit code of pytest if it collects no tests


class Outcome(NamedTuple):
    """The result of a run of tests.

    Attributes:
        test: The id of the test that failed or got stuck. '' if all tests passed.
        how: '' for a failure, otherwise what happened instead.
        output: What pytest printed.
    """

    test: str = ''
    how: str = ''
    output: str = ''


class OutOfTime(Exception):
    """The time limit of a mutation is over, and no test has detected it."""


class Copy:
    """A copy of the tracked files of a tree, in a separate folder.

    It is a context manager. On exit, it ends whatever was started in the copy, and removes the
    copy.
    """

    def __init__(self, tree: str, silence: float) -> None:
        self._tree, self._silence = tree, silence
        self._changes = 0
        self.place = tempfile.mkdtemp(prefix='mut-')
        self.root = os.path.join(self.place, 'tree')
        self._temporary = os.path.join(self.place, 't')

    def __enter__(self) -> 'Copy':
        names = subprocess.run(
            ['git', '-C', self._tree, 'ls-files', '-z'], stdout=subprocess.PIPE, check=True
        ).stdout.split(b'\0')
        for name in map(os.fsdecode, filter(None, names)):
            target = os.path.join(self.root, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(os.path.join(self._tree, name), target)
        subprocess.run(['git', 'init', '-q', self.root], check=True)  # .gitignore is tested
        return self

    def __exit__(self, *exception: object) -> None:
        self._end_leftovers()
        shutil.rmtree(self.place, ignore_errors=True)

    @contextlib.contextmanager
    def changed(self, path: str, content: bytes) -> Iterator[None]:
        """Gives a file another content for the duration of the context."""
        with open(os.path.join(self.root, path), 'rb') as file:
            before = file.read()
        self._write(path, content)
        try:
            yield
        finally:
            self._write(path, before)

    def _write(self, path: str, content: bytes) -> None:
        path = os.path.join(self.root, path)
        with open(path, 'wb') as file:
            file.write(content)
        # Python only recognises outdated bytecode by the time of the source file.
        self._changes += 1
        moment = time.time() + 2 * self._changes
        os.utime(path, (moment, moment))

    def test(self, words: Sequence[str], until: float) -> Outcome:
        """Runs pytest with some arguments up to the first failure.

        Raises:
            OutOfTime: The time limit is over.
        """
        shutil.rmtree(self._temporary, ignore_errors=True)
        os.makedirs(self._temporary)
        command = [sys.executable, '-u', '-m', 'pytest', '-x', '-v', '-rfE', '--tb=line']
        command += ['-p', 'no:cacheprovider', '-o', 'console_output_style=progress', *words]
        log = os.path.join(self.place, 'log')
        with open(log, 'wb') as output:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            stuck = self._wait(process, log, until)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._end_leftovers()
        with open(log, errors='replace') as file:
            return _outcome(process.returncode, stuck, file.read())

    def _environment(self) -> Dict[str, str]:
        changed = dict(os.environ, TMPDIR=self._temporary, PYTHONPATH=self.root, COLUMNS='250')
        changed.pop('PYTHONDONTWRITEBYTECODE', None)
        return changed

    def _wait(self, process: 'subprocess.Popen[bytes]', log: str, until: float) -> bool:
        """Waits for the process. Returns whether it got stuck instead of ending.

        Raises:
            OutOfTime: The time limit is over.
        """
        size, since = 0, time.time()
        while process.poll() is None:
            if os.path.getsize(log) != size:
                size, since = os.path.getsize(log), time.time()
            if time.time() - since > self._silence:
                return True
            if time.time() > until:
                raise OutOfTime
            time.sleep(0.2)
        return False

    def _end_leftovers(self) -> None:
        """Ends the servers that tests have left running.

        Their command lines contain the path of this copy.
        """
        for name in filter(str.isdigit, os.listdir('/proc')):
            with contextlib.suppress(OSError):
                with open(f'/proc/{name}/cmdline', 'rb') as file:
                    ours = (self.place + '/').encode() in file.read()
                if ours and int(name) != os.getpid():
                    os.kill(int(name), signal.SIGKILL)


def _outcome(code: int, stuck: bool, output: str) -> Outcome:
    started = STARTED.findall(output)
    running = started[-1] if started else ''
    if stuck:
        return Outcome(running or 'before any test', 'stuck', output)
    if code in (0, NO_TESTS):
        return Outcome(output=output)
    failed = SUMMARY.findall(output)
    if failed:
        return Outcome(failed[0], '', output)
    return Outcome(running or 'before any test', f'pytest ended with code {code}', output)


class Runner:
    """Finds the test that detects a mutation.

    Args:
        copy: The copy of the tree that is mutated.
        tiers: Names of TIERS.
        limit: The time limit for one mutation, in seconds.
        files: The test files or folders to run. Empty for all.
        costs: {test file: seconds}.
        known: {mutation: the test that detected it the last time}.
        passing: The ids of tests that pass without a mutation.
    """

    def __init__(
        self,
        copy: Copy,
        tiers: Sequence[str],
        limit: float,
        files: Sequence[str] = (),
        costs: Optional[Dict[str, float]] = None,
        known: Optional[Dict[str, str]] = None,
        passing: Sequence[str] = (),
    ) -> None:
        self._copy, self._tiers, self._limit = copy, tiers, limit
        self._costs, self._known = costs or {}, known or {}
        self._sources = Sources(copy.root)
        self._tests = [
            name for name in _test_files(copy.root) if not files or name.startswith(tuple(files))
        ]
        self._passing: Set[str] = set(passing)
        self._broken: Set[str] = set()  # tests that fail without a mutation

    def run(self, mutation: Mutation) -> str:
        """Returns the tier and the test that detect a mutation, or SURVIVED, as text."""
        path, content = apply(self._sources, mutation)
        until = time.time() + self._limit
        try:
            for tier in self._tiers:
                for names in self._stages(mutation, path):
                    caught = self._stage(path, content, tier, names, until)
                    if caught:
                        return caught
        except OutOfTime:
            return f'not decided within {self._limit:.0f} s'
        return 'SURVIVED'

    def _stages(self, mutation: Mutation, path: str) -> List[List[str]]:
        """Returns what is run in turn: the known test, the nearest files, the other files."""
        folder = f'tests/{mutation.package}/'
        first = os.path.join(folder, 'test_' + os.path.basename(path))
        ordered = sorted(self._tests, key=lambda name: (name != first, *self._cost(name)))
        nearest = [name for name in ordered if name.startswith(folder)]
        others = [name for name in ordered if name not in nearest]
        known = self._known.get(mutation.name, '')
        exists = os.path.exists(os.path.join(self._copy.root, known.split('::')[0]))
        return [stage for stage in ([known] if known and exists else [], nearest, others) if stage]

    def _cost(self, name: str) -> List[float]:
        return [self._costs.get(name, 0.0), os.path.getsize(os.path.join(self._copy.root, name))]

    def _stage(
        self, path: str, content: bytes, tier: str, names: List[str], until: float
    ) -> Optional[str]:
        """Returns the tier and the test that detect a file's new content, or None.

        `names` are test files, or one test.
        """
        chosen = ['-m', TIERS[tier]] if TIERS[tier] else []
        while True:
            without = [f'--deselect={test}' for test in sorted(self._broken)]
            with self._copy.changed(path, content):
                found = self._copy.test(chosen + without + names, until)
            if not found.test:
                return None
            if '::' in names[0] and 'not found: ' in found.output:
                return None  # the known test was renamed
            if found.how or found.test.split('::')[0] == found.test:
                return f'{tier}: {found.test} ({found.how or "while it is imported"})'
            if found.test in self._broken:
                return f'{tier}: {found.test} (although it was left out)'
            with self._copy.changed(path, content):
                fails_alone = bool(self._copy.test([found.test], until).test)
            if fails_alone and self._passes(found.test, until):
                return f'{tier}: {found.test}'
            why = 'it fails without a mutation' if fails_alone else 'it only fails after others'
            print(f'left out, because {why}: {found.test}', flush=True)
            self._broken.add(found.test)

    def _passes(self, test: str, until: float) -> bool:
        if test not in self._passing and not self._copy.test([test], until).test:
            self._passing.add(test)
        return test in self._passing


def _test_files(root: str) -> List[str]:
    """Returns the test files of a tree that check what the program does."""
    found = [
        os.path.relpath(os.path.join(folder, name), root)
        for folder, _, names in os.walk(os.path.join(root, 'tests'))
        for name in names
        if name.startswith('test_') and name.endswith('.py')
    ]
    return sorted(name for name in found if not name.startswith(LEFT_OUT))


def read_results() -> Dict[str, Dict[str, str]]:
    """Returns {mutation: {column: text}} of results.csv."""
    if not os.path.exists(RESULTS):
        return {}
    with open(RESULTS, newline='', encoding='utf-8') as file:
        return {row['mutation']: row for row in csv.DictReader(file)}


def known_tests(column: str) -> Dict[str, str]:
    """Returns {mutation: the test that detected it}.

    It is read from a column of results.csv or, if that is empty, from the other column.
    """
    return {
        name: result.partition(': ')[2].partition(' (')[0]
        for name, row in read_results().items()
        for result in [row[column] or row['before'] or row['after']]
        if '::' in result
    }


def note(mutation: Mutation, column: str, result: str) -> None:
    """Writes a result to results.csv. The results of other mutations stay."""
    rows = read_results()
    row = rows.setdefault(mutation.name, dict.fromkeys(COLUMNS, ''))
    told = {'mutation': mutation.name, 'where': mutation.where, 'what': mutation.what}
    row.update(told, **{column: result})
    with open(RESULTS + '.part', 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows.values())
    os.replace(RESULTS + '.part', RESULTS)


def read_log(path: Optional[str]) -> Tuple[Dict[str, float], List[str]]:
    """Reads a file with the output of `pytest -v --durations=0`.

    Returns:
        {test file: seconds}, and the ids of the tests that passed.
    """
    costs: Dict[str, float] = {}
    if not path:
        return costs, []
    with open(path, errors='replace') as file:
        output = file.read()
    for seconds, name in COST.findall(output):
        costs[name] = costs.get(name, 0.0) + float(seconds)
    return costs, PASSED.findall(output)


def chosen(arguments: argparse.Namespace, root: str) -> List[Mutation]:
    """Returns the mutations that the command line selects."""
    found = list(by_hand.MUTATIONS)
    if arguments.drawn:
        found = operators.drawn(Sources(root), arguments.seed, arguments.drawn)
    by_name = {mutation.name: mutation for mutation in found}
    unknown = sorted(set(arguments.names) - set(by_name))
    if unknown:
        raise SystemExit(f'there is no mutation {", ".join(unknown)}')
    if arguments.names:
        found = [by_name[name] for name in arguments.names]
    if arguments.missing:
        rows = read_results()
        found = [each for each in found if not rows.get(each.name, {}).get(arguments.column)]
    return found


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('names', nargs='*', help='mutations to run (default: all)')
    add('--tree', default=ROOT, help='checkout whose tests are run (default: this one)')
    add(
        '--column',
        choices=('before', 'after'),
        default='after',
        help='column of results.csv to write',
    )
    add('--tiers', nargs='+', choices=list(TIERS), default=['fast', 'slow'])
    add('--drawn', type=int, default=0, help='draw this number of mutations from this tree instead')
    add('--seed', type=int, default=0, help='seed of the draw')
    add('--limit', type=float, default=1800.0, help='seconds for one mutation')
    add('--silence', type=float, default=300.0, help='seconds within which a test must end')
    add('--files', nargs='+', default=[], help='test files or folders to run (default: all)')
    add(
        '--log',
        help='file with the output of pytest -v --durations=0 on the same tree: the fastest files '
        'run first, and tests that passed there count as passing without a mutation',
    )
    add('--missing', action='store_true', help='run only mutations that have no result yet')
    return parser.parse_args()


def main() -> None:
    """Runs the selected mutations. The exit code is 1 if one was not caught."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the copy is removed
    arguments = parse()
    mutations = chosen(arguments, ROOT)
    missed = 0
    with Copy(arguments.tree, arguments.silence) as copy:
        costs, passing = read_log(arguments.log)
        runner = Runner(
            copy,
            arguments.tiers,
            arguments.limit,
            arguments.files,
            costs,
            known_tests(arguments.column),
            passing,
        )
        for mutation in mutations:
            started = time.time()
            result = runner.run(mutation)
            missed += not result.startswith(tuple(f'{tier}: ' for tier in TIERS))
            note(mutation, arguments.column, result)
            seconds = time.time() - started
            told = f'{mutation.name} | {mutation.where} | {result} | {seconds:.0f} s'
            print(told, flush=True)
    print(f'{len(mutations) - missed} of {len(mutations)} caught')
    sys.exit(min(missed, 1))


if __name__ == '__main__':
    main()
