"""Trainings for the experiments, run as processes of train.py."""

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
    """Returns a parser with the arguments that all experiments share.

    Args:
        module: The module that the user runs, such as 'experiments.noise'.
        description: The docstring of the module. Its first line is shown.
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
        help='port of MongoDB on this machine',
    )
    return made


def newest(config: Config, suffix: str, dbname: str, port: int, flags: Sequence[str]) -> Document:
    """Trains in a separate process, unless this was done before; returns the newest validation.

    Args:
        config: The settings of the training.
        suffix: The suffix of the exp_id.
        dbname: The database for the records.
        port: The port of MongoDB.
        flags: Further flags of train.py.

    Returns:
        The newest record with a validation.

    Raises:
        subprocess.CalledProcessError: The training fails. Its message is on standard error.
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
    """Returns the top-1 of a record with a validation, a fraction."""
    value: float = record['validation_results']['topn_val']['top1']
    return value
