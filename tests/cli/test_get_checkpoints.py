"""checkpoints/get_checkpoints.sh with a local server: complete, interrupted and changed files.

It is also run without a network.
"""

import hashlib
import os
import subprocess

import pytest
import web

pytestmark = pytest.mark.slow
SCRIPT = os.path.join('checkpoints', 'get_checkpoints.sh')
PREFIX = 'resnet18/mirror/model.ckpt-126250'
DATA = PREFIX + '.data-00000-of-00001'
FILES = {
    PREFIX + '.meta': b'm' * 1000,
    PREFIX + '.index': b'i' * 333,
    DATA: bytes(range(256)) * 777,
}
OTHER = bytes(reversed(range(256))) * 777  # has the size of DATA

# The released checkpoints in full.
HOST = 'https://neuralalignckpts.s3-us-west-1.amazonaws.com/'
RELEASED = [
    'resnet18/symmetric/model.ckpt-450360',
    'resnet18/activation/model.ckpt-450360',
    'resnet18/information_tpe/model.ckpt-1000800',
    'resnet50/symmetric/model.ckpt-450360',
    'resnet50/activation/model.ckpt-450360',
    'resnet50/information_tpe/model.ckpt-1000800',
    'resnet50v2/symmetric/model.ckpt-450360',
    'resnet50v2/activation/model.ckpt-450360',
    'resnet50v2/information_tpe/model.ckpt-1000800',
    'resnet101v2/symmetric/model.ckpt-450360',
    'resnet101v2/activation/model.ckpt-450360',
    'resnet101v2/information_tpe/model.ckpt-1000800',
    'resnet152v2/symmetric/model.ckpt-450360',
    'resnet152v2/activation/model.ckpt-450360',
    'resnet152v2/information_tpe/model.ckpt-1000800',
    'resnet18/mirror/model.ckpt-126250',
]
ENDINGS = ['.meta', '.index', '.data-00000-of-00001']


@pytest.fixture
def get(site, tmp_path):
    """Returns a function: arguments -> the commands.Done of a copy of the script in tmp_path."""
    path = web.copy(SCRIPT, tmp_path)
    return lambda *arguments, url=site.url: web.call([path] + list(arguments), CHECKPOINTS_URL=url)


@pytest.fixture
def folder(tmp_path):
    """The folder of the downloaded checkpoints."""
    return tmp_path / 'checkpoints'


def fetch(get):
    return get('resnet18', 'mirror')


def is_whole(folder, files=FILES):
    return {name: (folder / name).read_bytes() for name in files} == files


def refusal(done, code=1):
    """Returns the only sentence of a call that failed."""
    line = done.err.splitlines()[-1]
    assert done.code == code and line.startswith('error: ') and done.err.count('error: ') == 1
    return line


def test_it_asks_for_the_released_checkpoints_where_they_are(tmp_path):
    urls = [HOST + prefix + ending for prefix in RELEASED for ending in ENDINGS]
    assert len(set(urls)) == 48
    asked = web.asked_by_default(SCRIPT, tmp_path)
    assert sorted(asked) == sorted([('HEAD', url) for url in urls] + [('GET', url) for url in urls])
    assert [method for method, _ in asked] == ['HEAD'] * 48 + [
        'GET'
    ] * 48  # asks for all sizes before the first byte
    assert all((tmp_path / 'checkpoints' / url[len(HOST) :]).read_text() == url for url in urls)


def test_a_checkpoint_comes_whole_once_and_its_sums_are_kept(get, site, folder):
    done = fetch(get)
    assert done.code == 0, done.err
    assert is_whole(folder) and f'checkpoints/{PREFIX} is complete' in done.out
    assert (folder / 'checksums.txt').read_text().splitlines() == [
        f'{hashlib.sha256(content).hexdigest()} {len(content)} {name}'
        for name, content in FILES.items()
    ]
    assert (
        len(site.asked) == 6 and fetch(get).code == 0 and len(site.asked) == 6
    )  # no request is repeated
    assert sorted(path.name for path in folder.iterdir()) == [
        'checksums.txt',
        'get_checkpoints.sh',
        'resnet18',
    ]
    assert len(list((folder / 'resnet18' / 'mirror').iterdir())) == 3


def test_sizes_are_told_first(get, site):
    lines = fetch(get).out.splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ['1.0', 'kB', PREFIX + '.meta'],
        ['333', 'bytes', PREFIX + '.index'],
        ['198.9', 'kB', DATA],
    ]
    assert lines[4] == '200.2 kB in all, 3 files from ' + site.url
    assert [method for method, _, _ in site.asked] == 3 * ['HEAD'] + 3 * ['GET']


def test_an_interrupted_download_goes_on(get, site, folder):
    site.cut[DATA] = 10001
    assert DATA + ' stopped. Run the same command again' in refusal(fetch(get))
    assert not (folder / DATA).exists() and DATA not in (folder / 'checksums.txt').read_text()
    del site.asked[:]
    assert fetch(get).code == 0 and is_whole(folder)
    # The two other files were complete.
    assert site.asked == [('HEAD', DATA, 0), ('GET', DATA, 10001)]


@pytest.mark.parametrize(
    'how', ['before the next call', 'between its two requests', 'and no version is told']
)
def test_halves_of_two_files_never_pass_for_a_whole(get, site, folder, how):
    site.validators = how != 'and no version is told'
    site.cut[DATA] = 10001
    refusal(fetch(get))
    site.files[DATA] = OTHER
    if how == 'between its two requests':
        site.stale[DATA] = FILES[DATA]
    assert fetch(get).code == 0 and (folder / DATA).read_bytes() == OTHER


def test_a_part_that_nobody_knows_is_not_continued(get, folder):
    (folder / DATA).parent.mkdir(parents=True)
    (folder / (DATA + '.part')).write_bytes(OTHER[:10001])
    assert fetch(get).code == 0 and is_whole(folder)


def test_a_file_of_another_size_than_was_told_is_refused(get, site, folder):
    site.stale[DATA] = FILES[DATA] + b'more'
    refusal(fetch(get))
    assert not (folder / DATA).exists()


def test_a_file_that_changed_here_is_named(get, folder):
    fetch(get)
    (folder / (PREFIX + '.index')).write_bytes(b'x')
    assert PREFIX + '.index changed after its download' in refusal(fetch(get))


def test_a_file_that_changed_there_is_named_and_not_taken(get, site, folder):
    fetch(get)
    (folder / DATA).unlink()
    site.files[DATA] = OTHER
    for _ in range(2):
        assert DATA + ' of ' in refusal(fetch(get)) and not (folder / DATA).exists()
    site.files[DATA] = FILES[DATA]
    assert fetch(get).code == 0 and is_whole(folder)


def test_a_file_that_did_not_come_from_there_is_left_alone(get, site, folder):
    (folder / DATA).parent.mkdir(parents=True)
    (folder / DATA).write_bytes(b'my own')
    assert 'checkpoints/' + DATA + ' was not downloaded from ' + site.url in refusal(fetch(get))
    assert (folder / DATA).read_bytes() == b'my own' and site.asked == []


def test_one_process_downloads_at_a_time(get, site, folder):
    (folder / '.downloading').write_text(str(os.getpid()))
    assert f'Process {os.getpid()} already downloads into checkpoints' in refusal(fetch(get))
    assert (folder / '.downloading').exists() and site.asked == []
    ended = subprocess.Popen(['true'])
    ended.wait()
    (folder / '.downloading').write_text(str(ended.pid))
    assert fetch(get).code == 0 and not (folder / '.downloading').exists()


def test_cdpath_does_not_lead_elsewhere(site, tmp_path):
    web.copy(SCRIPT, tmp_path)
    (tmp_path / 'elsewhere' / 'checkpoints').mkdir(parents=True)
    done = web.call(
        [SCRIPT, 'resnet18', 'mirror'],
        cwd=str(tmp_path),
        CHECKPOINTS_URL=site.url,
        CDPATH=str(tmp_path / 'elsewhere'),
    )
    assert done.code == 0 and is_whole(tmp_path / 'checkpoints')
    assert list((tmp_path / 'elsewhere' / 'checkpoints').iterdir()) == []


def test_a_file_that_the_server_lacks_is_named(get, folder):
    sentence = refusal(get('resnet50', 'symmetric'))
    assert (
        'has no resnet50/symmetric/model.ckpt-450360.meta (HTTP 404)' in sentence
        and 'python -m config.recipes' in sentence
    )
    assert sorted(path.name for path in folder.iterdir()) == ['get_checkpoints.sh']


def test_without_network_there_is_one_sentence(get, folder):
    done = get(url='http://127.0.0.1:9')
    assert len(done.err.splitlines()) == 1
    assert 'does not answer' in refusal(
        done
    ) and '`python -m config.recipes` writes our own recipes' in refusal(done)
    assert sorted(path.name for path in folder.iterdir()) == ['get_checkpoints.sh']


@pytest.mark.parametrize(
    'arguments',
    [
        ('resnet34', 'mirror'),
        ('resnet50', 'mirror'),
        ('resnet18', 'none'),
        ('x',),
        ('',),
        ('resnet18 resnet50', 'symmetric'),
        ('resnet18', 'mirror', 'resnet18'),
    ],
)
def test_what_does_not_exist_is_refused(get, site, arguments):
    refusal(get(*arguments), 2)
    assert site.asked == []
