"""Searches settings of the weight mirror and compares the best with the default on other seeds.

    make search

The search is over the learning rate, alpha and beta. Two workers share its study. Finished searches
and trainings are not repeated: a second call prints the same table.
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
SEEDS = (1, 2, 3)  # the search itself uses seed 0


def search(*words: str) -> 'subprocess.Popen[bytes]':
    """Starts a worker."""
    return subprocess.Popen(
        [sys.executable, 'search.py'] + list(words), cwd=ROOT, stdout=subprocess.DEVNULL
    )


def searched(port: int, cache: str) -> bool:
    """Runs the search in WORKERS workers. Returns whether all of them succeeded.

    Args:
        port: The port of MongoDB.
        cache: The flag that sets the folder for checkpoints and the study.
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
    """Returns the trial of the search that has the best top-1, as stored in MongoDB."""
    collection = places.collection(Config.of(recipes.RECIPES[RECIPE].settings, choices()))
    with connection.connect('localhost', port) as client:
        found = client[DBNAME][collection + '.searches'].find_one(
            {'study': STUDY}, sort=[('value', -1)]
        )
    return cast(Document, found)


def top1(name: str, values: Dict[str, object], seed: int, port: int, cache: str) -> float:
    """Trains, unless this was done before, and returns the top-1, a fraction.

    Args:
        name: A name for the settings, part of the exp_id.
        values: The settings that replace those of the recipe.
        seed: The seed of the training.
        port: The port of MongoDB.
        cache: The flag that sets the folder for checkpoints.

    Raises:
        subprocess.CalledProcessError: The training fails.
    """
    words = name.replace(' ', '_').replace("'", '')
    config = Config.of(dict(recipes.RECIPES[RECIPE].settings, seed=seed, **values), choices())
    return trained.top1(trained.newest(config, f'_{words}_{seed}', DBNAME, port, [cache]))


def main() -> int:
    """Runs the search and the trainings, and prints the table. Returns the exit code."""
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
