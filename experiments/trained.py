"""A training by train.py, as those experiments need it that compare trainings by what MongoDB then
holds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from typing import Sequence, cast

from config import params
from config.root import ROOT
from config.schema import Config
from database import connection, server
from database.types import Document
from training import places

HOST = 'localhost'


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """The ArgumentParser of an experiment, with what all of them take: where their trainings keep
    what they make.
    """
    made = argparse.ArgumentParser(
        prog='python -m ' + module, description=description.splitlines()[0]
    )
    made.add_argument(
        '--cache_dir', required=True, help='folder for checkpoints and other local files'
    )
    made.add_argument(
        '--port',
        type=int,
        default=server.DEFAULT_PORT,
        help='where MongoDB answers on this machine',
    )
    return made


def newest(config: Config, suffix: str, dbname: str, port: int, flags: Sequence[str]) -> Document:
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
            + list(flags),
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    with connection.connect(HOST, port) as client:
        found = client[dbname][places.collection(config) + '.files'].find_one(
            {'exp_id': str(config.alignment) + suffix, 'validation_results': {'$exists': True}},
            sort=[('step', -1)],
        )
    return cast(Document, found)


def top1(record: Document) -> float:
    """The top-1 of a record with a validation, a fraction."""
    value: float = record['validation_results']['topn_val']['top1']
    return value
