"""Hostile files: small ones that would cost much. Each is refused within a second and 200 MB.

    python tests/faults/hostile.py [--files 200] [--seed 0]

Each file is made at random, of one of the kinds below, and read in a separate process. The time on
the processor and the growth of the memory are measured while the reader runs. The reader may refuse
the file with the error that its users see, or read it; it must do so within the limits. Any other
exception counts as a crash. The exit code is 0 if the reader kept the limits for all files.
"""

import argparse
import io
import json
import os
import pickle
import random
import resource
import struct
import sys
import tarfile
import tempfile
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, ROOT)

from training import runtime  # noqa: E402, F401 (first: it prepares TensorFlow)

from PIL import Image  # noqa: E402

from config import authors, params, query  # noqa: E402
from config.schema import Config, ConfigError  # noqa: E402
from data import cifar, idx, sources  # noqa: E402
from data.base import DataError  # noqa: E402
from database import entries  # noqa: E402
from database.archive import unpack  # noqa: E402
from database.errors import StoreError  # noqa: E402
from database.spool import Spool  # noqa: E402

SECONDS, BYTES = 1.0, 200 << 20
KILL_AFTER = 30  # seconds
MEMORY = 8 << 30  # bytes that a reader can have at all
GROUPS = 'model_params', 'save_params', 'learning_rate_params', 'train_params'
NAMES = 'layers_list', 'drop_epochs', 'worker_hosts', 'dbname', 'port', 'freeze', 'save_to_gfs'


def text(word):
    """Returns the opcode that makes a text."""
    return b'X' + struct.pack('<i', len(word)) + word.encode()


def in_authors_form(group, key, value):
    """Returns a pickle in the authors' form; `value`: the opcodes of params[group][key]."""
    return b''.join(
        [b'\x80\x02}', text('params'), b'}']
        + [
            text(name) + b'}' + (text(key) + value + b's' if name == group else b'') + b's'
            for name in authors.PASSED_OVER
        ]
        + [b's.']
    )


def setting(value, chance):
    document = {'params': {chance.choice(GROUPS): {chance.choice(NAMES): value}}}
    return pickle.dumps(document, chance.randint(2, 4))


def doubled(chance):
    """A list that holds a list several times, which holds a list several times, and so on."""
    found = ['a']
    for _ in range(chance.randint(5, 200)):
        found = [found] * chance.randint(2, 5)
    return setting(found, chance)


def numbers(chance):
    """Numbers of thousands of digits, in opcodes of text and of bytes."""
    digits = b'%d' % chance.randint(1, 9) * chance.randint(4000, 900_000)
    return chance.choice(
        [
            setting([1 << chance.randint(10_000, 4_000_000)], chance),
            b'\x80\x02I' + digits + b'\n.',
            b'\x80\x02L' + digits + b'L\n.',
            b'\x80\x02F' + digits + b'\n.',
        ]
    )


def calls(chance):
    """Calls of calls, and many calls with the same long list or dictionary."""
    count = chance.randint(1000, 200_000)
    value = chance.choice(
        [
            b'cos\nx\n' + b'\x85R' * count,
            b'(' + b'N' * count + b'lq\x010cos\nx\nq\x020' + b'h\x02h\x01R0' * count + b'N',
            b'('
            + b''.join(text(f'k{each}') + b'N' for each in range(count // 10))
            + b'dq\x010'
            + b'cos\nx\nh\x01b0' * (count // 5)
            + b'N',
        ]
    )
    key = chance.choice(['func', 'alignment', 'lr_params', 'optimizer_class', 'agg_func_kwargs'])
    return in_authors_form(chance.choice(sorted(authors.PASSED_OVER)), key, value)


def opcodes(chance):
    """Very many opcodes, nested or not."""
    count = chance.randint(10_000, 3_000_000)
    return b'\x80\x02' + chance.choice(
        [b'N0' * count + b'N.', b']' * count + b'a' * (count - 1) + b'.', b'N' + b'\x85' * count]
    )


def texts(chance):
    """JSON that is nested, long, or holds long numbers."""
    count = chance.randint(1000, 2_000_000)
    inside = chance.choice(
        ['[' * count, '9' * count, '0.' + '9' * count, '[' + '0,' * count + '0]', '"' + 'a' * count]
    )
    return (
        json.dumps({'params': {'model_params': {'layers_list': 0}}}).replace('0', inside).encode()
    )


def tar(chance):
    """A sparse archive, or one that promises more than it has."""
    file = io.BytesIO()
    size = 1 << chance.randint(31, 60)
    with tarfile.open(fileobj=file, mode='w', format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo('checkpoint-1.index'))
        member = tarfile.TarInfo('checkpoint-1.data-00000-of-00001')
        member.size = 512
        if chance.random() < 0.7:
            major = chance.choice(['0', '1'])
            member.pax_headers = {
                'GNU.sparse.major': major,
                'GNU.sparse.minor': chance.choice(['0', '1']),
                'GNU.sparse.name': member.name,
                'GNU.sparse.realsize': str(size),
                'GNU.sparse.size': str(size),
                'GNU.sparse.map': f'0,1,{size - 1},1',
            }
        archive.addfile(member, io.BytesIO(b'0\n'.ljust(512, b'\0')))
        if not member.pax_headers:
            member.size = size
            file.seek(member.offset)
            file.write(member.tobuf(tarfile.GNU_FORMAT)[:512])
    return file.getvalue()


def zeros(chance):
    """Compressed zeros that are an IDX file of hundreds of megabytes."""
    count = chance.randint(100_000, 1_500_000)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    header = struct.pack('>I3I', 0x803, count, 28, 28)
    return (
        packer.compress(header)
        + b''.join(packer.compress(bytes(784 * 1000)) for _ in range(count // 1000))
        + packer.flush()
    )


def packed_zeros(chance):
    """A compressed archive of CIFAR with members of hundreds of megabytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w:gz', compresslevel=1) as archive:
        for name in ('data_batch_1.bin', 'more.bin')[: chance.randint(1, 2)]:
            member = tarfile.TarInfo('cifar-10-batches-bin/' + name)
            member.size = chance.randint(80, 300) << 20
            archive.addfile(member, _Zeros())
    return file.getvalue()


class _Zeros:
    """A file without end."""

    def read(self, size):
        return bytes(size)


def picture(chance):
    """An image of a few bytes and very many pixels."""
    form = chance.choice(['PNG', 'GIF', 'JPEG', 'BMP', 'TGA', 'PPM'])
    file, side = io.BytesIO(), chance.randint(11_000, 30_000)
    Image.new('L', (1, 1)).save(file, form)
    content = bytearray(file.getvalue())
    if form == 'PPM':
        return b'P5 %d %d 255\n' % (side, side)
    places = {
        'PNG': (16, '>II'),
        'GIF': (6, '<HH'),
        'JPEG': (content.find(b'\xff\xc0') + 5, '>HH'),
        'BMP': (18, '<II'),
        'TGA': (12, '<HH'),
    }
    place, how = places[form]
    struct.pack_into(how, content, place, side, side)
    if form == 'PNG':
        struct.pack_into('>I', content, 29, zlib.crc32(bytes(content[12:29])))
    return bytes(content)


def asked(chance):
    """A query with numbers, texts or types that MongoDB does not have."""
    long = chance.randint(20, 100_000)
    return chance.choice(
        [
            '{"a": %s}' % ('9' * long),
            '{"a": {"$numberLong": "%s"}}' % ('9' * long),
            '{"a": {"$date": 1e' + str(long) + '}}',
            '{"a": {"$numberDecimal": "%s"}}' % ('x' * long),
            '{"a\\u0000": 1}',
            '{"a": "\\ud800"}',
            '{"a":' * long + '1' + '}' * long,
            '[' * long,
        ]
    ).encode()


def entry(chance):
    """An entry of the spool that names files elsewhere, or is of another form."""
    import bson

    return bson.encode(
        chance.choice(
            [
                {'record': {'step': 1}, 'checkpoint': '/etc/passwd', 'remove': True},
                {'record': {'step': 1}, 'recent': '../../private', 'remove': True},
                {'record': 'a' * chance.randint(1, 1 << 20)},
                {'content': b'', 'filename': 'x'},
                {},
            ]
        )
    )


def read_settings(path):
    os.rename(path, path + '.pkl')
    Config.of(params.load(path + '.pkl')[0], {})


def read_text(path):
    os.rename(path, path + '.json')
    Config.of(params.load(path + '.json')[0], {})


def read_archive(path):
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        unpack(path, folder)


def read_idx(path):
    os.rename(path, path + '.gz')
    idx.read_idx(path + '.gz', 3)


def read_cifar(path):
    with open(path, 'rb') as file:
        try:
            cifar._unpacked(file.read())
        except OSError as error:
            raise DataError(str(error))


def read_picture(path):
    sources._jpeg(sources.Picture(path))


def read_query(path):
    with open(path, 'rb') as file:
        query.query_of(file.read().decode())


def read_entry(path):
    os.mkdir(path + '.spool')
    os.rename(path, os.path.join(path + '.spool', '00000001.bson'))
    entries.kept(Spool(path + '.spool'))


KINDS = {
    'doubled lists': (doubled, read_settings, ConfigError),
    'numbers': (numbers, read_settings, ConfigError),
    'calls': (calls, read_settings, ConfigError),
    'opcodes': (opcodes, read_settings, ConfigError),
    'JSON': (texts, read_text, ConfigError),
    'archives': (tar, read_archive, StoreError),
    'compressed images': (zeros, read_idx, DataError),
    'CIFAR archives': (packed_zeros, read_cifar, DataError),
    'pictures': (picture, read_picture, DataError),
    'queries': (asked, read_query, ConfigError),
    'entries of the spool': (entry, read_entry, StoreError),
}
REFUSED, READ, SLOW, LARGE, CRASHED = range(5)


def most_memory():
    """Returns the most memory that this process has held since `forget_memory`, in bytes."""
    with open('/proc/self/status') as file:
        return int(file.read().partition('VmHWM:')[2].split()[0]) << 10


def forget_memory():
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')


def measured(reader, refusal, path):
    """Runs a reader in this process, and returns one of the outcomes."""
    resource.setrlimit(resource.RLIMIT_CPU, (KILL_AFTER, KILL_AFTER))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    forget_memory()
    memory, usage = most_memory(), resource.getrusage(resource.RUSAGE_SELF)
    try:
        reader(path)
        outcome = READ
    except refusal:
        outcome = REFUSED
    except BaseException as error:  # what the campaign looks for
        print(f'{reader.__name__}: {error!r}'[:300], flush=True)
        return CRASHED
    now = resource.getrusage(resource.RUSAGE_SELF)
    took = now.ru_utime + now.ru_stime - usage.ru_utime - usage.ru_stime
    grown = most_memory() - memory
    if took > SECONDS or grown > BYTES:
        print(f'{reader.__name__}: {took:.2f} s, {grown >> 20} MB', flush=True)
    return SLOW if took > SECONDS else LARGE if grown > BYTES else outcome


def outcome_of(reader, refusal, path):
    """Returns the outcome of a reader, which runs in a fork."""
    process = os.fork()
    if not process:
        code = CRASHED
        try:
            code = measured(reader, refusal, path)
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    return SLOW if os.WTERMSIG(status) in (9, 24) else CRASHED


def run(files, seed):
    """Runs the campaign; returns {kind: [files, refused, read, too slow, too large, crashed]}."""
    chance, counts = random.Random(seed), {name: [0] * 6 for name in KINDS}
    Image.init()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(files):
            name = list(KINDS)[number % len(KINDS)]
            make, reader, refusal = KINDS[name]
            path = os.path.join(folder, str(number))
            with open(path, 'wb') as file:
                file.write(make(chance))
            counts[name][0] += 1
            counts[name][1 + outcome_of(reader, refusal, path)] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--files', type=int, default=200, help='number of files')
    parser.add_argument('--seed', type=int, default=0, help='seed of the files')
    arguments = parser.parse_args()
    counts = run(arguments.files, arguments.seed)
    print('| hostile | files | refused | read | too slow | too large | crashed |')
    print('|---|---|---|---|---|---|---|')
    for name, row in counts.items():
        print('| {} | {} | {} | {} | {} | {} | {} |'.format(name, *row))
    return 0 if not any(sum(row[3:]) for row in counts.values()) else 1


if __name__ == '__main__':
    sys.exit(main())
