"""Fuzzing of the readers: damaged files are read or refused with a message, and never executed.

    python tests/faults/fuzz.py [--inputs 100000] [--seed 0]

Each input is a valid or a hostile file that is changed at random: bytes are flipped, cut, repeated
or taken from another file, or opcodes of a pickle that call a function are inserted. A reader may
return, or raise the error that its users see; any other exception counts as a crash. Commands,
code, pickled classes, libraries and connections that Python's audit hook reports count as executed
(Python 3.7 has no such hook).
"""

import argparse
import glob
import os
import pickle
import random
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, ROOT)

from training import runtime  # noqa: E402, F401 (first: it prepares TensorFlow)
import tensorflow.compat.v1 as tf  # noqa: E402

from config import params  # noqa: E402
from config.schema import Config, ConfigError  # noqa: E402
from data import tfrecords  # noqa: E402
from data.base import DataError  # noqa: E402
from database import entries  # noqa: E402
from database.archive import unpack  # noqa: E402
from database.errors import StoreError  # noqa: E402
from database.spool import Spool  # noqa: E402

RUNS = (
    'os.system',
    'os.exec',
    'os.fork',
    'os.forkpty',
    'os.posix_spawn',
    'os.spawn',
    'subprocess.Popen',
    'exec',
    'compile',
    'socket.connect',
    'pickle.find_class',
    'ctypes.dlopen',
    'webbrowser.open',
)
CALLS = [
    b"cos\nsystem\n(S'true'\ntR",
    b"c__builtin__\neval\n(S'1'\ntR",
    b'\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R',
    b"csubprocess\nPopen\n(S'true'\ntR",
    b"cbuiltins\nexec\n(S'1'\ntR",
    b"(S'true'\nios\nsystem\n",
    b'\x82\x01',
    b'P0\n',
]


class Hostile:
    """An object whose pickle runs a command when Python unpickles it."""

    def __reduce__(self):
        return os.system, ('true',)


def seeds(folder):
    """Returns {reader: [bytes of a file]}: the files that are changed."""
    path = os.path.join(folder, 'settings.pkl')
    params.save(Config.of(dict(alignment='mirror', layers_list=(7, 5), alpha=0.5), {}), path)
    tar = os.path.join(folder, 'checkpoint.tar')
    with tarfile.open(tar, 'w', format=tarfile.GNU_FORMAT) as archive:
        for name in ('checkpoint-1.index', 'checkpoint-1.data-00000-of-00001'):
            with open(os.path.join(folder, name), 'wb') as file:
                file.write(os.urandom(700))
            archive.add(os.path.join(folder, name), arcname=name)
    records = os.path.join(folder, 'train-0')
    with tf.python_io.TFRecordWriter(records) as writer:
        for label in range(3):
            writer.write(
                tf.train.Example(
                    features=tf.train.Features(
                        feature=dict(
                            images=tf.train.Feature(
                                bytes_list=tf.train.BytesList(value=[b'\xff\xd8' + os.urandom(90)])
                            ),
                            labels=tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                        )
                    )
                ).SerializeToString()
            )
    entry = Spool(os.path.join(folder, 'good')).keep(
        dict(record=dict(step=1, params=dict(a=[1.5, 'b'])), checkpoint='c.tar')
    )
    authors = sorted(glob.glob(os.path.join(ROOT, 'tests', 'config', 'authors', '*.pkl')))
    return {
        'settings': [read(path)]
        + [read(name) for name in authors]
        + [pickle.dumps(dict(model_params=Hostile()), protocol) for protocol in range(5)],
        'archive': [read(tar)],
        'records': [read(records)],
        'spool': [read(entry)],
    }


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def changed(content, others, chance):
    """Returns the bytes, changed at random in one to four ways."""
    for _ in range(chance.randint(1, 4)):
        place, size = chance.randrange(len(content) + 1), chance.randint(1, 40)
        content = chance.choice(
            (
                lambda: (
                    content[:place]
                    + bytes(chance.randrange(256) for _ in range(size))
                    + content[place + size :]
                ),
                lambda: content[:place],
                lambda: content[:place] + content[place + size :],
                lambda: content[:place] + content[max(0, place - size) :],
                lambda: content[:place] + chance.choice(CALLS) + content[place:],
                lambda: content[:place] + chance.choice(others)[place:],
                lambda: (
                    content[:place]
                    + bytes([content[place] ^ 1 << chance.randrange(8)])
                    + content[place + 1 :]
                    if place < len(content)
                    else content
                ),
            )
        )()
    return content


def read_settings(path):
    """Reads a file as train.py reads --load_params_file."""
    os.replace(path, path + '.pkl')
    params.load(path + '.pkl')


def read_archive(path):
    """Reads a file as a checkpoint from MongoDB."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        unpack(path, folder)


def read_records(path):
    """Reads a file as train.py checks --data_dir and looks for damage in it."""
    if tfrecords.scan(path)[1] is None:
        tfrecords.layout_of(path, 3)
    else:
        raise DataError('damaged')


def read_spool(path):
    """Reads a file as train.py reads the spool."""
    folder = path + '.spool'
    os.makedirs(folder, exist_ok=True)
    os.replace(path, os.path.join(folder, '00000001.bson'))
    entries.kept(Spool(folder))


READERS = {
    'settings': (read_settings, ConfigError),
    'archive': (read_archive, StoreError),
    'records': (read_records, DataError),
    'spool': (read_spool, StoreError),
}


def run(inputs, seed):
    """Runs the campaign; returns {reader: [inputs, read, refused, crashed, executed]}."""
    chance, counts, seen = random.Random(seed), {name: [0] * 5 for name in READERS}, []
    listening = []
    if hasattr(sys, 'addaudithook'):
        sys.addaudithook(
            lambda event, arguments: seen.append(event) if listening and event in RUNS else None
        )
    with tempfile.TemporaryDirectory() as folder:
        good = seeds(folder)
        everything = sum(good.values(), [])
        path = os.path.join(folder, 'input')
        for number in range(inputs):
            name = sorted(READERS)[number % len(READERS)]
            content = changed(chance.choice(good[name]), everything, chance)
            with open(path, 'wb') as file:
                file.write(content)
            reader, refusal = READERS[name]
            row = counts[name]
            row[0] += 1
            del seen[:]
            listening.append(True)
            try:
                reader(path)
                row[1] += 1
            except refusal:
                row[2] += 1
            except Exception as error:  # what the campaign looks for
                row[3] += 1
                print(f'{name}: {error!r} by {content[:200]!r}', flush=True)
            finally:
                listening.clear()
            if seen:
                row[4] += 1
                print(f'{name}: {seen[:3]} by {content[:200]!r}', flush=True)
    return counts


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--inputs', type=int, default=100000, help='number of inputs')
    parser.add_argument('--seed', type=int, default=0, help='seed of the changes')
    arguments = parser.parse_args()
    started = time.time()
    counts = run(arguments.inputs, arguments.seed)
    print('| reader | inputs | read | refused | crashed | executed |\n|---|---|---|---|---|---|')
    for name, row in sorted(counts.items()):
        print('| {} | {:,} | {:,} | {:,} | {} | {} |'.format(name, *row))
    print(f'{time.time() - started:.0f} s')
    return 0 if not any(row[3] + row[4] for row in counts.values()) else 1


if __name__ == '__main__':
    sys.exit(main())
