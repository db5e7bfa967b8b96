"""build_tfrecords: from folders of images to TFRecords, and every way in which that can fail."""

import contextlib
import hashlib
import io
import json
import os
import runpy
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from data.base import MANY_PIXELS
from data import DataError, build_tfrecords, load, mnist, sources

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PIXELS = np.random.RandomState(0).randint(0, 256, (13, 17, 3), dtype=np.uint8)


def save(path, image=PIXELS, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(str(path), **options)
    return path


def read(out):
    """Returns {split: [(JPEG bytes, label)]} in the stored order."""
    records = dict(train=[], validation=[])
    for split in records:
        for path in sorted(out.glob(split + '-*')):
            for record in tf.python_io.tf_record_iterator(str(path)):
                feature = tf.train.Example.FromString(record).features.feature
                records[split].append(
                    (feature['images'].bytes_list.value[0], feature['labels'].int64_list.value[0])
                )
    return records


@pytest.fixture
def source(tmp_path):
    """A folder with the class folders b (12 images), a (7) and c (3): 22 different JPEGs."""
    for name, count in dict(b=12, a=7, c=3).items():
        for number in range(count):
            save(
                tmp_path / 'source' / name / f'{number}.jpg',
                np.roll(PIXELS, 5 * number + ord(name), axis=1),
            )
    return tmp_path / 'source'


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'out'


def build(source, out, *options):
    return build_tfrecords.main(['folder', str(source), str(out)] + list(options))


def refused(capsys, *arguments):
    assert build_tfrecords.main(list(map(str, arguments))) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('error: ')
    return error


def test_folder(source, out, capsys):
    assert build(source, out, '--validation_fraction=0.25', '--shards=4') == 0
    description = json.loads((out / 'dataset.json').read_text())
    shards = description.pop('shards')
    assert description == dict(
        classes=3,
        label_names=['a', 'b', 'c'],
        train_images=16,
        validation_images=6,
        converted={},
        left_out=[],
    )
    records = read(out)
    assert {name: (shard['bytes'], shard['sha256']) for name, shard in shards.items()} == {
        path.name: (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in out.glob('*-of-*')
    }
    assert [
        sum(shard['images'] for name, shard in shards.items() if name.startswith(split))
        for split in records
    ] == [16, 6]
    assert np.bincount([label for _, label in records['train']]).tolist() == [5, 9, 2]
    assert np.bincount([label for _, label in records['validation']]).tolist() == [2, 3, 1]
    stored = sorted(content for split in records.values() for content, _ in split)
    assert stored == sorted(
        path.read_bytes() for path in source.glob('*/*.jpg')
    )  # JPEGs keep their bytes
    names = sorted(path.name for path in out.iterdir())
    shards = [
        f'{split}-{shard:05d}-of-00004' for split in ('train', 'validation') for shard in range(4)
    ]
    assert names == ['dataset.json'] + shards
    assert (
        '16 training and 6 validation images of 3 classes; none converted to JPEG; 0 unreadable'
        in capsys.readouterr().out
    )


def test_records_are_shuffled_and_always_alike(source, tmp_path):
    contents = []
    for name in ('one', 'two'):
        assert (
            build(source, tmp_path / name, '--shards=1') == 0
        )  # several shards would also mix the records
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    labels = [label for _, label in read(tmp_path / 'one')['train']]
    assert labels != sorted(labels)


def test_no_more_files_than_images(source, out):
    assert build(source, out, '--shards=100') == 0
    assert len(list(out.glob('validation-*'))) == len(read(out)['validation'])
    assert all(path.stat().st_size for path in out.iterdir())


@pytest.mark.parametrize('name', ['validation', 'val'])
def test_a_source_that_is_split_already(tmp_path, out, name):
    for split, classes in (('train', 'xy'), (name, 'y')):
        for label in classes:
            save(tmp_path / 'source' / split / label / 'deep' / 'image.jpg')
    assert build(tmp_path / 'source', out) == 0
    labels = {split: sorted(label for _, label in records) for split, records in read(out).items()}
    assert labels == dict(train=[0, 1], validation=[1])


def test_other_formats_become_jpeg(evaluate):
    smooth = np.add.outer(np.arange(0, 200, 5), np.arange(0, 50, 2)).astype(np.uint8)
    colour = Image.fromarray(np.dstack([smooth, smooth[::-1], 250 - smooth]))
    for image, form in (
        (colour, 'PNG'),
        (colour.convert('RGBA'), 'PNG'),
        (colour.convert('P'), 'GIF'),
        (colour.convert('L'), 'BMP'),
        (colour.convert('CMYK'), 'JPEG'),
        (colour.convert('1'), 'PNG'),
    ):
        buffer = io.BytesIO()
        image.save(buffer, form)
        jpeg, kind = sources.to_jpeg(buffer.getvalue())
        assert kind == ('JPEG CMYK' if form == 'JPEG' else form)
        assert jpeg != buffer.getvalue() and Image.open(io.BytesIO(jpeg)).mode == 'RGB'
        decoded = evaluate(lambda: tf.image.decode_jpeg(jpeg)).astype(int)
        if form != 'GIF' and image.mode != '1':
            assert np.abs(decoded - np.asarray(image.convert('RGB'), int)).mean() < 4


def test_jpegs_are_kept():
    for mode in ('RGB', 'L'):
        buffer = io.BytesIO()
        Image.fromarray(PIXELS).convert(mode).save(buffer, 'JPEG', quality=30)
        assert sources.to_jpeg(buffer.getvalue()) == (buffer.getvalue(), None)


def test_unreadable_images_are_named_and_left_out(source, out, capsys):
    (source / 'a' / 'notes.txt').write_text('no image')
    (source / 'b' / 'cut.jpg').write_bytes((source / 'b' / '0.jpg').read_bytes()[:300])
    save(source / 'c' / 'deep.png', Image.fromarray(np.full((5, 7), 40000, np.uint16)))
    (source / 'c' / '.hidden').write_text('not looked at')
    assert build(source, out) == 0
    said = capsys.readouterr()
    for name in (
        'notes.txt is not an image',
        'cut.jpg',
        'deep.png cannot be read: it has more than 8 bits per channel',
    ):
        assert name in said.err
    assert '3 unreadable images left out' in said.out and '.hidden' not in said.err
    description = json.loads((out / 'dataset.json').read_text())
    assert sorted(
        message.split(' ')[0].rpartition('/')[2] for message in description['left_out']
    ) == ['cut.jpg', 'deep.png', 'notes.txt']
    assert description['train_images'] + description['validation_images'] == 22
    assert sum(map(len, read(out).values())) == 22


def test_nothing_readable(source, out, capsys):
    for path in source.glob('*/*'):
        path.write_text('damaged')
    assert 'None of the 20 train images could be read' in refused(capsys, 'folder', source, out)
    assert not (out / 'dataset.json').exists()
    with pytest.raises(DataError, match='half built'):
        load('imagenet', str(out))


def test_a_finished_folder_is_kept(source, out, capsys):
    assert build(source, out) == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert 'finished data set' in refused(capsys, 'folder', source, out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert build(source, out, '--overwrite', '--shards=2') == 0
    assert len(list(out.iterdir())) == 5


def interrupted(source, out, monkeypatch, at='validation-00000-of-00002', *arguments):
    """Runs a build that Ctrl-C stops while a file is written. Returns the exit code."""
    replace = os.replace

    def stop(old, new):
        if new.endswith(at):
            raise KeyboardInterrupt
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', stop)
        return build(source, out, '--shards=2', *arguments)


def test_an_interrupted_build_goes_on_where_it_was(source, out, tmp_path, monkeypatch, capsys):
    assert interrupted(source, out, monkeypatch) == 130
    assert 'Run the same command again to resume' in capsys.readouterr().err
    assert [path.name for path in sorted(out.glob('train-*'))] == [
        'train-00000-of-00002',
        'train-00001-of-00002',
    ]
    assert not (out / 'dataset.json').exists()
    with pytest.raises(DataError, match='half built'):
        load('imagenet', str(out))
    (out / 'train-00001-of-00002').write_bytes(b'cut off')  # for example because the disk was full
    read = []
    monkeypatch.setattr(
        sources.Folder,
        'jpeg',
        staticmethod(lambda place: read.append(place) or sources._jpeg(place)),
    )
    assert build(source, out, '--shards=2') == 0
    assert len(read) == 10 + 2  # of 20 and 2
    monkeypatch.undo()
    assert build(source, tmp_path / 'whole', '--shards=2') == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / 'whole').iterdir()
    }


@pytest.mark.parametrize('first', [[], ['--shards=3']])
def test_a_build_that_was_interrupted_in_its_first_file_goes_on(source, out, monkeypatch, first):
    """No file is finished then, even if the build replaces a finished data set."""
    if first:
        assert build(source, out, *first) == 0
    again = ['--overwrite'] * len(first)
    assert interrupted(source, out, monkeypatch, 'train-00000-of-00002', *again) == 130
    (out / 'train-00000-of-00002.tmp').write_bytes(b'cut off')  # by a kill
    assert build(source, out, '--shards=2') == 0
    assert sorted(path.name for path in out.iterdir()) == ['dataset.json'] + [
        f'{split}-0000{shard}-of-00002' for split in ('train', 'validation') for shard in (0, 1)
    ]


def test_an_unfinished_build_of_something_else_is_kept(source, out, monkeypatch, capsys):
    assert interrupted(source, out, monkeypatch) == 130
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert 'unfinished build of other images' in refused(
        capsys, 'folder', source, out, '--shards=3'
    )
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert build(source, out, '--shards=3', '--overwrite') == 0
    assert len(list(out.iterdir())) == 6 and load('imagenet', str(out)).classes == 3


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{',
        '[]',
        '{"plan": 1}',
        '{"plan": "a", "shards": {"train-00000-of-00002": {}}}',
        '{"plan": "a", "shards": [1]}',
    ],
)
def test_a_damaged_note_of_an_unfinished_build_means_that_nothing_is_done(
    source, out, monkeypatch, text
):
    assert interrupted(source, out, monkeypatch) == 130
    (out / 'dataset.json.tmp').write_text(text)
    assert build(source, out, '--shards=2') == 0 and load('imagenet', str(out)).train_images == 20


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:.*fork')
def test_several_processes_write_the_same_files(source, tmp_path):
    for number, form in enumerate(('PNG', 'GIF')):
        save(source / 'a' / f'other{number}', format=form)
    (source / 'b' / 'none.jpg').write_bytes(b'none')
    for processes in (1, 3):
        assert (
            build(source, tmp_path / str(processes), f'--processes={processes}', '--shards=5') == 0
        )
    one, three = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in '13'
    ]
    assert {name for name in one if one[name] != three[name]} <= {'dataset.json'}
    one, three = [json.loads(files['dataset.json'].decode()) for files in (one, three)]
    assert one == three and one['converted'] == {'PNG': 1, 'GIF': 1} and len(one['left_out']) == 1


def session_of(number):
    """Returns the ids of the processes of a session that have not ended."""
    found = []
    for process in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):
            with open(f'/proc/{process}/stat') as file:
                state, _, _, session = file.read().rpartition(')')[2].split()[:4]
            if int(session) == number and state != 'Z':
                found.append(int(process))
    return found


@pytest.mark.nightly
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_no_process_outlives_a_build_and_the_same_command_works_at_once(source, tmp_path, number):
    for each in range(600):
        shutil.copy(str(source / 'a' / '0.jpg'), str(source / 'a' / f'more{each}.jpg'))
    out = tmp_path / 'out'
    words = [sys.executable, '-m', 'data.build_tfrecords', 'folder', str(source), str(out)]
    words += ['--processes=2', '--shards=3']
    building = subprocess.Popen(words, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(out.glob('*-of-*')) and building.poll() is None:
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(building.pid, number)  # as Ctrl-C does
    else:
        building.send_signal(number)
    building.wait()
    again = subprocess.run(words, cwd=ROOT, stderr=subprocess.PIPE)
    assert again.returncode == 0, again.stderr
    deadline = time.monotonic() + 10
    while session_of(building.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session_of(building.pid) == []
    assert build(source, tmp_path / 'whole', '--shards=3') == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / 'whole').iterdir()
    }


def test_finished_files_can_be_verified(source, out, capsys):
    assert 'holds no TFRecords' in refused(capsys, 'verify', source)
    assert build(source, out, '--shards=2') == 0
    assert build_tfrecords.main(['verify', str(out)]) == 0
    assert 'as they were written' in capsys.readouterr().out
    path = out / 'train-00001-of-00002'
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    assert f'{path} is not as it was written' in refused(capsys, 'verify', out)
    path.unlink()
    assert f'{path} is missing' in refused(capsys, 'verify', out)
    path.write_bytes(content)
    (out / 'train-00002-of-00003').write_bytes(content)
    assert 'train-00002-of-00003 is not one of the files' in refused(capsys, 'verify', out)


def test_foreign_records_are_never_touched(source, out, capsys):
    out.mkdir()
    (out / 'train-00000-of-01024').write_bytes(b'ImageNet')
    assert 'did not write' in refused(capsys, 'folder', source, out, '--overwrite')
    assert [path.name for path in out.iterdir()] == ['train-00000-of-01024']


def test_bad_folders(tmp_path, source, out, capsys):
    assert 'is not a folder' in refused(capsys, 'folder', tmp_path / 'nowhere', out)
    (tmp_path / 'file').write_text('')
    assert 'is a file' in refused(capsys, 'folder', source, tmp_path / 'file')
    save(tmp_path / 'single' / 'only' / '0.jpg')
    assert 'There are 1 class folders' in refused(capsys, 'folder', tmp_path / 'single', out)
    (source / 'd').mkdir()
    assert 'd is empty' in refused(capsys, 'folder', source, out)
    for label in ('train/x', 'train/y', 'val/z'):
        save(tmp_path / 'split' / label / '0.jpg')
    assert "the class 'z'" in refused(capsys, 'folder', tmp_path / 'split', out)
    assert not out.exists()


@pytest.mark.parametrize(
    'option, words',
    [
        ('--validation_fraction=0', 'between 0 and 1'),
        ('--validation_fraction=1', 'between 0 and 1'),
        ('--validation_fraction=0.01', 'no validation image of any class'),
        ('--shards=0', 'at least 1'),
        ('--processes=0', 'at least 1'),
    ],
)
def test_bad_options(source, out, capsys, option, words):
    assert words in refused(capsys, 'folder', source, out, option)


@pytest.mark.parametrize(
    'arguments', [[], ['cifar'], ['folder'], ['mnist'], ['mnist', 'out', '--shards=many']]
)
def test_bad_command_lines(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        build_tfrecords.main(arguments)
    assert stop.value.code == 2 and 'usage:' in capsys.readouterr().err


@pytest.mark.parametrize('form', ['PNG', 'JPEG', 'GIF'])
def test_an_image_of_too_many_pixels_is_left_out(source, out, capsys, form):
    """30,000 x 30,000 pixels, but a few bytes in any of these formats."""
    image = Image.new('L', (1, 1))
    save(source / 'a' / 'small.img', image, format=form)
    content = bytearray((source / 'a' / 'small.img').read_bytes())
    places = {
        'PNG': (16, '>II'),
        'GIF': (6, '<HH'),
        'JPEG': (content.find(b'\xff\xc0') + 5, '>HH'),
    }
    place, how = places[form]
    struct.pack_into(how, content, place, 30_000, 30_000)
    if form == 'PNG':
        struct.pack_into('>I', content, 29, zlib.crc32(bytes(content[12:29])))
    (source / 'a' / 'small.img').write_bytes(bytes(content))
    assert build(source, out) == 0
    assert 'small.img has more than 100,000,000 pixels' in capsys.readouterr().err


def test_the_number_of_pixels_can_be_chosen(source, out, capsys):
    save(source / 'a' / 'wide.png', np.zeros([3, 100, 3], np.uint8))
    assert build(source, out, '--max_pixels=300') == 0
    assert build(source, out, '--max_pixels=299', '--overwrite') == 0
    assert capsys.readouterr().err.count('wide.png has more than 299 pixels') == 1
    sources.limit_pixels(MANY_PIXELS)


@pytest.mark.filterwarnings(
    'ignore:.*found in sys.modules'
)  # these tests have already imported the program that they run
def test_the_command(out, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['build_tfrecords', 'folder', 'nowhere', str(out)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module('data.build_tfrecords', run_name='__main__')
    assert stop.value.code == 1 and 'nowhere is not a folder' in capsys.readouterr().err


@pytest.mark.slow
def test_mnist(out, take):
    assert build_tfrecords.main(['mnist', str(out), '--shards=3']) == 0
    dataset = load('imagenet', str(out), image_size=28, preprocessing='plain')
    assert (dataset.train_images, dataset.validation_images, dataset.classes) == (4000, 1000, 10)
    assert dataset.label_names == list('0123456789')
    images, labels = mnist.read_subset()['test']
    batches = take(lambda: dataset.validation(300))
    seen = np.concatenate([batch['labels'][batch['mask'] == 1] for batch in batches])
    assert sorted(seen) == sorted(labels)
    first = batches[0]['images'][0, :, :, 0].astype(int)
    distances = np.abs(images - first).mean((1, 2))
    assert distances.min() < 3 and labels[distances.argmin()] == seen[0]


# --- folders that are not what they seem to be ----------------------------------------------------


def folders(root, *paths):
    """Writes a different image into each of these folders."""
    for number, path in enumerate(paths):
        save(root / path / 'image.jpg', np.roll(PIXELS, 3 * number, axis=1))
    return root


@pytest.mark.parametrize(
    'train, other',
    [
        ('train', 'test'),
        ('train', 'valid'),
        ('Train', 'Val'),
        ('training', 'validation'),
        ('TRAINING', 'Testing'),
        ('training_set', 'test_set'),
        ('train2017', 'val2017'),
        ('train images', 'Validation-Data'),
    ],
)
def test_the_folders_of_a_split(tmp_path, out, train, other):
    source = folders(tmp_path / 'source', train + '/x', train + '/test', other + '/x')
    assert build(source, out) == 0
    description = json.loads((out / 'dataset.json').read_text())
    assert description['label_names'] == ['test', 'x']  # within a split, a class may have this name
    assert (description['train_images'], description['validation_images']) == (2, 1)


@pytest.mark.parametrize(
    'names, words',
    [
        (
            ['train/x', 'train/y', 'val/x', 'test/x'],
            'holds test, train, val, but needs one training folder',
        ),
        (
            ['train/x', 'train/y', 'Test/x', 'validation/x'],
            'holds Test, train, validation, but needs one training folder',
        ),
        (['train/x', 'Training/x'], 'holds Training, train, but needs one training folder'),
        (['val/x', 'test/x'], 'holds test, val, but needs one training folder'),
        (['train/x', 'train/y'], 'holds train, but needs one training folder'),
        (['train/x', 'val/x', 'cat'], 'holds train, val, which has the name of a split'),
        (['train', 'car', 'bus'], 'beside bus, car'),
        (
            ['train/train', 'train/val', 'val/train'],
            'source/train must contain class folders, but holds train, val, which',
        ),
        (
            ['cat/train', 'cat/test', 'dog/train'],
            'source/cat holds test, train, but a split within each class',
        ),
        (['train/a/train', 'train/a/val', 'val/a'], 'train/a holds train, val, but a split within'),
    ],
)
def test_folders_that_may_be_a_split_or_classes_are_refused(tmp_path, out, capsys, names, words):
    assert words in refused(capsys, 'folder', folders(tmp_path / 'source', *names), out)
    assert not out.exists()


def test_a_class_may_be_called_nearly_like_a_split(tmp_path, out):
    source = folders(
        tmp_path / 'source', 'trains/1', 'trains/2', 'value/1', 'value/2', 'tests/1', 'tests/2'
    )
    assert build(source, out, '--validation_fraction=0.5') == 0
    assert json.loads((out / 'dataset.json').read_text())['label_names'] == [
        'tests',
        'trains',
        'value',
    ]


def test_what_programs_hide_is_left_out(source, out):
    for hidden in ('.ipynb_checkpoints', '@eaDir', '#recycle', '__MACOSX', 'deep/.git'):
        save(source / 'a' / hidden / '0.jpg')
        save(source / hidden.split('/')[-1] / '0.jpg')
    assert build(source, out) == 0
    description = json.loads((out / 'dataset.json').read_text())
    assert description['label_names'] == ['a', 'b', 'c']
    assert (
        description['train_images'] + description['validation_images'] == 22
        and description['left_out'] == []
    )


def test_links_to_folders_are_followed(source, out, tmp_path, capsys):
    folders(tmp_path / 'elsewhere', *map(str, range(5)))
    (source / 'a' / 'more').symlink_to(tmp_path / 'elsewhere')
    (source / 'a' / 'again').symlink_to(
        tmp_path / 'elsewhere'
    )  # the same images are read only once
    (source / 'd').symlink_to(tmp_path / 'elsewhere' / '0')
    (source / 'b' / 'broken').symlink_to(tmp_path / 'nowhere')
    assert build(source, out) == 0
    description = json.loads((out / 'dataset.json').read_text())
    assert description['train_images'] + description['validation_images'] == 22 + 5 + 1
    assert (
        description['label_names'] == list('abcd')
        and 'b/broken cannot be read: ' in description['left_out'][0]
    )
    for name, target in (('self', source / 'a'), ('above', source)):
        (source / 'a' / name).symlink_to(target)
        assert f'a/{name} is a link to a folder that contains it' in refused(
            capsys, 'folder', source, out
        )
        (source / 'a' / name).unlink()
    (source / 'e').symlink_to(tmp_path / 'nowhere')
    assert 'source/e is a link to ' in refused(capsys, 'folder', source, out)


def test_nothing_waits_for_a_pipe(source, out, capsys):
    os.mkfifo(str(source / 'a' / 'pipe.jpg'))
    assert build(source, out) == 0
    assert 'a/pipe.jpg is a named pipe, not a file.' in capsys.readouterr().err


def test_a_program_in_postscript_is_not_run(source, out, tmp_path, capsys, monkeypatch):
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin' / 'gs').write_text(f'#!/bin/sh\ntouch {tmp_path}/witness\n')
    (tmp_path / 'bin' / 'gs').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'), prepend=os.pathsep)
    (source / 'a' / 'evil.jpg').write_bytes(
        b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n'
    )
    assert build(source, out) == 0
    assert 'evil.jpg is not an image in one of the formats JPEG, PNG,' in capsys.readouterr().err
    assert not (tmp_path / 'witness').exists()


def deep_png(colour_type, channels):
    """Returns a PNG with 16 bits per channel, which Pillow cannot write."""

    def chunk(name, data):
        return (
            struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        )

    rows = b''.join(
        b'\0' + struct.pack(f'>{5 * channels}H', *[1000 * row + 7] * 5 * channels)
        for row in range(3)
    )
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', 5, 3, 16, colour_type, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )


def deep_tiff():
    """Returns a TIFF with 16 bits per channel: 2 x 1 pixels, RGB, uncompressed."""
    tags = [
        (256, 3, 1, 2),
        (257, 3, 1, 1),
        (258, 3, 3, 134),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 140),
        (277, 3, 1, 3),
        (278, 3, 1, 1),
        (279, 4, 1, 12),
        (284, 3, 1, 1),
    ]
    entries = b''.join(struct.pack('<HHII', *tag) for tag in tags)
    return (b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4)).ljust(
        134, b'\0'
    ) + struct.pack('<3H6H', 16, 16, 16, *range(6))


@pytest.mark.parametrize(
    'content',
    [
        deep_png(0, 1),
        deep_png(4, 2),
        deep_png(2, 3),
        deep_png(6, 4),
        deep_tiff(),
        b'P6 2 1 65535\n' + bytes(range(12)),
        b'P6 2 1 256\n' + bytes(12),
        b'P5 2 1 65535\n' + bytes(4),
    ],
    ids=[
        'grey PNG',
        'grey and alpha PNG',
        'RGB PNG',
        'RGBA PNG',
        'RGB TIFF',
        'RGB PPM',
        'RGB PPM with one value too many',
        'PGM',
    ],
)
def test_images_of_more_than_8_bits_are_refused(content):
    with Image.open(io.BytesIO(content)) as image:
        image.load()  # it is a valid image
    with pytest.raises(ValueError, match='more than 8 bits per channel; convert it first'):
        sources.to_jpeg(content)


def test_an_image_of_8_bits_is_none_of_those(tmp_path):
    for form in ('PNG', 'TIFF', 'PPM', 'BMP', 'TGA', 'WEBP'):
        buffer = io.BytesIO()
        Image.fromarray(PIXELS).save(buffer, form)
        assert sources.to_jpeg(buffer.getvalue())[1] == form
    pixels = struct.pack(
        '<4H', 0x7E0, 0xF800, 0, 0
    )  # a BMP with 16 bits per pixel: 5 or 6 per channel
    header = struct.pack('<IiiHHIIiiII', 40, 2, 2, 1, 16, 3, len(pixels), 0, 0, 0, 0) + struct.pack(
        '<3I', 0xF800, 0x7E0, 0x1F
    )
    bmp = (
        b'BM'
        + struct.pack('<IHHI', 14 + len(header) + len(pixels), 0, 0, 14 + len(header))
        + header
        + pixels
    )
    assert sources.to_jpeg(bmp)[1] == 'BMP'


def test_a_class_without_a_readable_image_is_refused(source, out, tmp_path, capsys):
    for path in (source / 'c').iterdir():
        path.unlink()
        path.symlink_to(tmp_path / 'not mounted' / path.name)
    sentence = refused(capsys, 'folder', source, out)
    assert "of the class 'c' could be read" in sentence and '--overwrite' in sentence
    assert not (out / 'dataset.json').exists()
    for number, path in enumerate((source / 'c').iterdir()):
        path.unlink()
        save(path, np.roll(PIXELS, number, axis=0))
    assert build(source, out, '--overwrite') == 0


# --- how many images a folder contains ------------------------------------------------------------


def test_what_is_built_is_counted(source, out, monkeypatch, capsys):
    monkeypatch.setattr(tf.python_io, 'TFRecordWriter', Forgetful)
    assert 'holds 19 images, but 20 were written' in refused(
        capsys, 'folder', source, out, '--shards=1'
    )
    assert not (out / 'dataset.json').exists()


class Forgetful(tf.python_io.TFRecordWriter):
    """A writer that loses the first record of each file."""

    def __init__(self, path):
        super().__init__(path)
        self._first = True

    def write(self, record):
        if not self._first:
            super().write(record)
        self._first = False


@pytest.mark.parametrize('checksums', [True, False])
def test_a_folder_whose_counts_are_wrong_is_told_by_verify(source, out, capsys, checksums):
    assert build(source, out, '--shards=2') == 0
    path = out / 'dataset.json'
    description = json.loads(path.read_text())
    if checksums:
        for name, shard in description['shards'].items():
            shard['images'] += name == 'train-00001-of-00002'
        words = f'{out}/train-00001-of-00002 holds 10 images, but {path} gives 11.'
    else:
        del description['shards']
        words = (
            f'{out} holds 20 training images, but {path} gives 21; build the folder again, or '
            'correct the number in that file.'
        )
    assert build_tfrecords.main(['verify', str(out)]) == 0
    path.write_text(json.dumps(dict(description, train_images=21)))
    capsys.readouterr()
    assert words in refused(capsys, 'verify', out)


def test_what_cannot_be_read_is_told_by_verify_without_checksums(source, out, capsys):
    assert build(source, out, '--shards=1') == 0
    description = json.loads((out / 'dataset.json').read_text())
    del description['shards']
    (out / 'dataset.json').write_text(json.dumps(description))
    assert build_tfrecords.main(['verify', str(out)]) == 0
    os.truncate(
        str(out / 'train-00000-of-00001'), (out / 'train-00000-of-00001').stat().st_size - 5
    )
    assert 'record 19 of ' in refused(capsys, 'verify', out)
    (out / 'dataset.json').unlink()
    (out / 'train-00000-of-00001').write_bytes(b'')
    assert "ImageNet's 50,000 are expected" in refused(capsys, 'verify', out)
