"""A search over learning rate, alpha and beta of mirror, and its best settings beside the default
on other seeds.

    make search

Two workers share the study. A search or training that has ended is not repeated: a second call
prints the same table.
"""

import argparse
import os
import subprocess
import sys
import tempfile

from benchmarks import trained
from config import recipes
from config.flags import as_flag
from config.schema import Config
from database import connection, server
from training import places
from training.experiment import choices

DBNAME, STUDY, RECIPE, TRIALS, WORKERS = 'search', 'search', 'mnist_fc_mirror', 30, 2
SPACE = ('learning_rate=0.003:1:log', 'alpha=1e-5:0.1:log', 'beta=1e-5:0.1:log')
SEEDS = (1, 2, 3)  # the search itself had 0


def search(*words):
    """Starts a worker."""
    return subprocess.Popen(
        [sys.executable, 'search.py'] + list(words), cwd=trained.ROOT, stdout=subprocess.DEVNULL
    )


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.search', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--cache_dir', required=True, help='folder for checkpoints and the study')
    parser.add_argument(
        '--port', type=int, default=29029, help='where MongoDB answers on this machine'
    )
    arguments = parser.parse_args()
    cache = '--cache_dir=' + os.path.abspath(arguments.cache_dir)
    server.ensure('localhost', arguments.port)
    settings = recipes.RECIPES[RECIPE].settings
    collection = places.collection(Config.of(settings, choices()))
    with tempfile.TemporaryDirectory() as folder, connection.connect(
        'localhost', arguments.port
    ) as client:
        (path,) = recipes.write([RECIPE], folder, choices())
        words = [
            '--load_params_file=' + path,
            f'--trials={TRIALS}',
            '--study=' + STUDY,
            '--dbname=' + DBNAME,
            f'--port={arguments.port}',
            cache,
        ] + ['--space=' + each for each in SPACE]
        workers = [search(*words) for _ in range(WORKERS)]
        if any([worker.wait() for worker in workers]):
            return 1
        best = client[DBNAME][collection + '.searches'].find_one(
            {'study': STUDY}, sort=[('value', -1)]
        )
        print(
            'best of {} trials: top-1 {:.4f}, {}'.format(
                TRIALS,
                best['value'],
                ' '.join(as_flag(name, value) for name, value in best['params'].items()),
            )
        )
        rate = {'learning_rate': best['params']['learning_rate']}
        print(
            '\n| settings | '
            + ' | '.join(f'seed {seed}' for seed in SEEDS)
            + ' |\n'
            + '|---' * (len(SEEDS) + 1)
            + '|'
        )
        for name, values in (
            ('default', {}),
            ("best's learning rate", rate),
            ('best', best['params']),
        ):
            found = []
            for seed in SEEDS:
                suffix = '_{}_{}'.format(name.replace(' ', '_').replace("'", ''), seed)
                try:
                    config = Config.of(dict(settings, seed=seed, **values), choices())
                    record = trained.newest(config, suffix, DBNAME, arguments.port, [cache])
                except subprocess.CalledProcessError:
                    return 1
                found.append('{:.3f}'.format(record['validation_results']['topn_val']['top1']))
            print('| {} | {} |'.format(name, ' | '.join(found)), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
