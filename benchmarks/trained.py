"""A training by train.py, as those benchmarks need it that compare trainings by what MongoDB then
holds.
"""

import os
import subprocess
import sys
import tempfile

from config import params
from database import connection
from training import places

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HOST = 'localhost'


def newest(config, suffix, dbname, port, flags):
    """Trains in a process of its own, where that was not done before; returns the newest record
    with a validation.

    config: config.schema.Config, of what is trained. suffix: of the exp_id. dbname, port: where the
    records go. flags: what else train.py is told.
    Raises subprocess.CalledProcessError where the training fails; its message is on standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'settings.pkl')
        params.save(config, path)
        subprocess.run(
            [
                sys.executable,
                'train.py',
                '--load_params_file=' + path,
                '--dbname=' + dbname,
                f'--port={port}',
                '--do_restore',
                '--exp_id_suffix=' + suffix,
            ]
            + flags,
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    with connection.connect(HOST, port) as client:
        return client[dbname][places.collection(config) + '.files'].find_one(
            {'exp_id': str(config.alignment) + suffix, 'validation_results': {'$exists': True}},
            sort=[('step', -1)],
        )
