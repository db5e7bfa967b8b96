"""One of several processes that train a grid, with trainings of pretend.py as processes.

python tests/experiments/worker.py PORT DBNAME CSV CACHE SEED ...
"""

import os
import subprocess
import sys

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

from experiments import grid, sweep

PRETEND = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'pretend.py')
VALUES = dict(recipe=['fc_small'], alignment=['symmetric', 'mirror'])


def launch(command, **others):
    """Starts a pretended training instead of train.py."""
    return subprocess.Popen([sys.executable, PRETEND] + command[1:], **others)


def main(port, dbname, csv, cache, *seeds):
    """Trains what is missing."""
    values = dict(VALUES, seed=list(map(int, seeds)))
    where = sweep.Where('localhost', int(port), dbname, cache, 1, 1, 'TensorFlow 0', csv)
    work = sweep.Sweep('grid', grid.Grid('grid', values).runs([]), where, launch=launch)
    work.run()
    return len(work.failures)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
