"""A search over learning rate, alpha and beta of mirror, and its best settings beside the default
on other seeds.

    make search

Two workers share the study. A search or training that has ended is not repeated: a second call
prints the same table.
"""

import os
import subprocess
import sys
import tempfile
from typing import Dict, cast

from config import recipes
from config.flags import as_flag
from config.root import ROOT
from config.schema import Config
from database import connection, server
from database.types import Document
from experiments import trained
from training import places
from training.choices import choices

DBNAME, STUDY, RECIPE, TRIALS, WORKERS = 'search', 'search', 'mnist_fc_mirror', 30, 2
SPACE = ('learning_rate=0.003:1:log', 'alpha=1e-5:0.1:log', 'beta=1e-5:0.1:log')
SEEDS = (1, 2, 3)  # the search itself had 0


def search(*words: str) -> 'subprocess.Popen[bytes]':
    """Starts a worker."""
    return subprocess.Popen(
        [sys.executable, 'search.py'] + list(words), cwd=ROOT, stdout=subprocess.DEVNULL
    )


def searched(port: int, cache: str) -> bool:
    """Lets the workers search. Returns whether all of them ended well.

    port: of MongoDB. cache: the flag of the folder for checkpoints and the study.
    """
    with tempfile.TemporaryDirectory() as folder:
        (path,) = recipes.write([RECIPE], folder, choices())
        words = [
            '--load_params_file=' + path,
            f'--trials={TRIALS}',
            '--study=' + STUDY,
            '--dbname=' + DBNAME,
            f'--port={port}',
            cache,
        ] + ['--space=' + each for each in SPACE]
        workers = [search(*words) for _ in range(WORKERS)]
        return not any([worker.wait() for worker in workers])


def best_trial(port: int) -> Document:
    """The trial of the search whose top-1 is best, as MongoDB holds it."""
    collection = places.collection(Config.of(recipes.RECIPES[RECIPE].settings, choices()))
    with connection.connect('localhost', port) as client:
        found = client[DBNAME][collection + '.searches'].find_one(
            {'study': STUDY}, sort=[('value', -1)]
        )
    return cast(Document, found)


def top1(name: str, values: Dict[str, object], seed: int, port: int, cache: str) -> float:
    """The top-1 after a training from a seed, with values in place of the recipe's.

    Raises subprocess.CalledProcessError.
    """
    words = name.replace(' ', '_').replace("'", '')
    config = Config.of(dict(recipes.RECIPES[RECIPE].settings, seed=seed, **values), choices())
    return trained.top1(trained.newest(config, f'_{words}_{seed}', DBNAME, port, [cache]))


def main() -> int:
    arguments = trained.parser('experiments.search', __doc__).parse_args()
    cache = '--cache_dir=' + os.path.abspath(arguments.cache_dir)
    server.ensure('localhost', arguments.port)
    if not searched(arguments.port, cache):
        return 1
    best = best_trial(arguments.port)
    flags = ' '.join(as_flag(name, value) for name, value in best['params'].items())
    print(f'best of {TRIALS} trials: top-1 {best["value"]:.4f}, {flags}')
    seeds = ' | '.join(f'seed {seed}' for seed in SEEDS)
    print(f'\n| settings | {seeds} |\n' + '|---' * (len(SEEDS) + 1) + '|')
    compared: Dict[str, Dict[str, object]] = {
        'default': {},
        "best's learning rate": {'learning_rate': best['params']['learning_rate']},
        'best': best['params'],
    }
    for name, values in compared.items():
        try:
            found = [top1(name, values, seed, arguments.port, cache) for seed in SEEDS]
        except subprocess.CalledProcessError:
            return 1
        print(f'| {name} | {" | ".join(f"{value:.3f}" for value in found)} |', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
