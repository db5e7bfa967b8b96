"""Searches settings of the weight mirror and compares the best with the default on other seeds.

    make search

The search is over the learning rate, alpha and beta. Two workers share its study. Finished searches
and trainings are not repeated: a second call prints the same table.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import argparse
import json
import subprocess
import sys
import tempfile
from typing import Dict, List, Mapping, Optional, Sequence

from config import recipes
from config.flags import as_flag
from config.root import ROOT
from config.rows import Value
from config.schema import Config
from database import connection, server
from database.place import SEARCHES
from database.types import Document
from experiments import base, lines, program
from experiments.base import Experiment, Results, Run
from experiments.lines import Line
from experiments.sweep import Where
from training import children, places
from training.choices import choices
from training.errors import TrainingError

STUDY, RECIPE, TRIALS, WORKERS = 'search', 'mnist_fc_mirror', 30, 2
SPACE = ('learning_rate=0.003:1:log', 'alpha=1e-5:0.1:log', 'beta=1e-5:0.1:log')
SEARCHED = tuple(each.partition('=')[0] for each in SPACE)
SEEDS = (1, 2, 3)  # the search itself uses seed 0
DEFAULT, RATE, BEST = 'default', "best's learning rate", 'best'


def search(*words: str) -> 'subprocess.Popen[bytes]':
    """Starts a worker."""
    return children.start(
        [sys.executable, 'search.py'] + list(words), cwd=ROOT, stdout=subprocess.DEVNULL
    )


def searched(where: Where) -> None:
    """Runs the search in WORKERS workers.

    Raises:
        TrainingError: A worker failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        (path,) = recipes.write([RECIPE], folder, choices())
        words = [
            '--load_params_file=' + path,
            f'--trials={TRIALS}',
            '--study=' + STUDY,
            '--dbname=' + where.dbname,
            '--host=' + where.host,
            f'--port={where.port}',
        ]
        words += ['--cache_dir=' + where.cache_dir] if where.cache_dir else []
        workers = [search(*words, *['--space=' + each for each in SPACE]) for _ in range(WORKERS)]
        try:
            failed = any([worker.wait() for worker in workers])
        finally:  # also after Ctrl-C, which does not reach them
            for worker in workers:
                if worker.poll() is None:
                    worker.terminate()
                    worker.wait()
        if failed:
            raise TrainingError('the search failed; its message is above')


def best_trial(where: Where) -> Document:
    """Returns the trial of the search that has the best top-1, as stored in MongoDB.

    Raises:
        TrainingError: There is none.
    """
    collection = places.collection(Config.of(recipes.RECIPES[RECIPE].settings, choices()))
    with connection.connect(where.host, where.port) as client:
        found = client[where.dbname][collection + SEARCHES].find_one(
            {'study': STUDY}, sort=[('value', -1)]
        )
    if found is None:
        raise TrainingError(f'the database {where.dbname} has no trial of the study {STUDY}')
    return found


class Search(Experiment):
    """Trainings with the best settings of a search, and with the default, on other seeds.

    Args:
        where: Where the search is run if there are no results yet; None searches nothing.
    """

    name = 'search'

    def __init__(self, where: Optional[Where] = None) -> None:
        self._where = where

    def runs(self, known: Sequence[Line]) -> List[Run]:
        """Returns the runs. The best settings are those of the results, or else of the search."""
        best = self._best(known)
        compared: Dict[str, Mapping[str, Value]] = {DEFAULT: {}}
        if best:
            compared.update({RATE: {'learning_rate': best['learning_rate']}, BEST: best})
        shared = recipes.RECIPES[RECIPE].settings
        return [
            Run(
                {'settings of mirror': name},
                Config.of(dict(shared, seed=seed, **values), choices()),
            )
            for name, values in compared.items()
            for seed in SEEDS
        ]

    def _best(self, known: Sequence[Line]) -> Mapping[str, Value]:
        for line in known:
            if line.factors.get('settings of mirror') == BEST:
                settings = json.loads(line.source.settings)
                return {name: settings[name] for name in SEARCHED}
        if self._where is None:
            return {}
        places.say(server.ensure(self._where.host, self._where.port))
        searched(self._where)
        best = best_trial(self._where)
        flags = ' '.join(as_flag(name, value) for name, value in best['params'].items())
        places.say(f'best of {TRIALS} trials: top-1 {best["value"]:.4f}, {flags}')
        found: Mapping[str, Value] = best['params']
        return found

    def table(self, results: Results) -> str:
        """Returns the table of docs/search.md: a row for each setting, a column for each seed."""
        seeds = ' | '.join(f'seed {seed}' for seed in SEEDS)
        rows = [f'| settings | {seeds} |', '|---' * (len(SEEDS) + 1) + '|']
        for group in results.groups:
            found = group.values('top1')
            cells = ' | '.join(base.number(found.get(seed), 3) for seed in SEEDS)
            rows.append(f'| {group.factors["settings of mirror"]} | {cells} |')
        return '\n'.join(rows)


def _run(arguments: argparse.Namespace) -> int:
    where = program.where_of(Search(), arguments)
    if not arguments.dry_run:
        return program.main(Search(where), arguments)
    if not any(
        line.factors.get('settings of mirror') == BEST for line in lines.File(where.csv).read()
    ):
        places.say(f'a search of {TRIALS} trainings comes before the runs with its best settings')
    return program.main(Search(), arguments)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the search and the trainings, and prints the table. Returns the exit code."""
    arguments = program.parser('experiments.search', __doc__ or '').parse_args(argv)
    return program.run(lambda: _run(arguments))


if __name__ == '__main__':
    sys.exit(main())
