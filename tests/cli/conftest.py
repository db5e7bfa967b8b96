"""Commands against a private MongoDB, and the training that most tests of this folder examine."""

import collections
import importlib.util
import os
import shutil

import pymongo
import pytest

from database import layout

import commands
import damage
import web

# The images that both versions of the two packages contain, in classes of unequal size: PNG and
# JPEG, in colour and in grey.
PHOTOGRAPHS = dict(
    face=['skimage/data/astronaut.png', 'skimage/data/camera.png', 'skimage/data/chelsea.png'],
    place=[
        'skimage/data/hubble_deep_field.jpg',
        'skimage/data/rocket.jpg',
        'sklearn/datasets/images/china.jpg',
    ],
    thing=[
        'skimage/data/brick.png',
        'skimage/data/coffee.png',
        'skimage/data/retina.jpg',
        'sklearn/datasets/images/flower.jpg',
    ],
)

Trained = collections.namedtuple('Trained', 'first again resumed settings')


@pytest.fixture
def site(request):
    """Yields a web.Site with the FILES of the test's module."""
    with web.serving(request.module.FILES) as serving:
        yield serving


@pytest.fixture(scope='session')
def home(tmp_path_factory):
    """The home folder of the user in the commands."""
    return str(tmp_path_factory.mktemp('home'))


@pytest.fixture(scope='session')
def run(home):
    """Returns a function that runs a command in this process.

    It is called as run('train.py', '--model=fc', ...) and returns a commands.Done.
    """
    return lambda *words, **variables: commands.call(words, home, **variables)


@pytest.fixture(scope='session')
def where(mongo_server, home):
    """The flags for the tests' MongoDB and folders.

    MNIST is the one that needs no files and no network.
    """
    return [
        f'--port={mongo_server.port}',
        '--dbname=cli',
        '--cache_dir=' + os.path.join(home, 'cache'),
    ]


@pytest.fixture(scope='session')
def folder(mongo_server, home):
    """Returns a function: exp_id -> the folder of the experiment's local checkpoints."""

    def path(exp_id, dbname='cli', collection='fc_7-5'):
        return os.path.join(
            home, 'cache', f'localhost:{mongo_server.port}', dbname, collection, exp_id
        )

    return path


@pytest.fixture(scope='session')
def records(mongo_server):
    """Returns a function: exp_id -> the experiment's records in the order of their steps."""
    client = pymongo.MongoClient(mongo_server.host, mongo_server.port)

    def find(exp_id, dbname='cli', collection='fc_7-5'):
        return list(
            client[dbname][collection + '.files']
            .find({'exp_id': exp_id})
            .sort([('step', 1), ('_id', 1)])
        )

    yield find
    client.close()


@pytest.fixture(scope='session')
def ending(mongo_server):
    """Returns a function: exp_id -> how its last process ended, or None if it has no claim."""
    client = pymongo.MongoClient(mongo_server.host, mongo_server.port)

    def find(exp_id, dbname='cli', collection='fc_7-5'):
        return (client[dbname][collection + '.claims'].find_one({'_id': exp_id}) or {}).get('ended')

    yield find
    client.close()


@pytest.fixture(scope='module', autouse=True)
def layout_of_records(mongo_server):
    """Checks that all records that the tests of a file stored agree with database/layout.py."""
    yield
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        stored = [
            document
            for name in client.list_database_names()
            for bucket in client[name].list_collection_names()
            if bucket.endswith('.files')
            for document in client[name][bucket].find({'item_for': {'$exists': False}})
        ]
    assert [
        (document['exp_id'], faults)
        for document in stored
        for faults in [layout.faults(document)]
        if faults
    ] == []


@pytest.fixture(scope='session')
def trained(run, where, home):
    """An experiment of 15 steps that is refused a second time and then continued to step 30."""
    settings = os.path.join(home, 'settings.pkl')
    fc = ['train.py'] + commands.FC + where
    half = fc + ['--exp_id_suffix=_split', '--train_epochs=0.5']
    first = run(*half, '--save_params_file=' + settings)
    again = run(*half)
    resumed = run(*(fc + ['--exp_id_suffix=_split', '--train_epochs=1', '--do_restore']))
    return Trained(first, again, resumed, settings)


@pytest.fixture(scope='session')
def whole(run, where):
    """The same experiment of 30 steps in a single run: a commands.Done."""
    return run('train.py', *commands.FC, *where, '--exp_id_suffix=_whole', '--train_epochs=1')


def installed(path):
    """Returns the path of a file of an installed package."""
    package, _, inside = path.partition('/')
    return os.path.join(os.path.dirname(importlib.util.find_spec(package).origin), inside)


@pytest.fixture(scope='session')
def photograph_tfrecords(run, tmp_path_factory):
    """A folder of TFRecords of the photographs, as the program builds them.

    It holds 6 training and 4 validation images.
    """
    source, out = tmp_path_factory.mktemp('photographs'), tmp_path_factory.mktemp('tfrecords')
    for name, paths in PHOTOGRAPHS.items():
        (source / name).mkdir()
        for path in paths:
            shutil.copy(installed(path), str(source / name))
    done = run(
        '-m',
        'data.build_tfrecords',
        'folder',
        str(source),
        str(out),
        '--validation_fraction=0.4',
        '--shards=2',
    )
    assert done.code == 0, done.err
    assert (
        done.out
        == f'{out}: 6 training and 4 validation images of 3 classes; 5 PNG converted to JPEG; 0 '
        'unreadable images left out.\n'
    )
    return str(out)


@pytest.fixture(scope='session')
def damaged_tfrecords(photograph_tfrecords, tmp_path_factory):
    """Returns a function: (how, split) -> a copy of that folder with one damaged file.

    The second file of the split is damaged in one of the ways of damage.py.
    """

    def copy(how, split):
        folder = str(tmp_path_factory.mktemp('damaged') / how)
        shutil.copytree(photograph_tfrecords, folder)
        damage.DAMAGES[how](os.path.join(folder, split + '-00001-of-00002'))
        damage.describe(folder)
        return folder

    return copy
