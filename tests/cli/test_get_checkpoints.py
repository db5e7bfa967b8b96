"""checkpoints/get_checkpoints.sh against a server of our own: whole files, interrupted ones, damaged ones, no network."""
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import threading

import commands
import pytest

SCRIPT = os.path.join(commands.ROOT, 'checkpoints', 'get_checkpoints.sh')
PREFIX = 'resnet18/mirror/model.ckpt-126250'
ENDINGS = {'.meta': b'm' * 1000, '.index': b'i' * 333, '.data-00000-of-00001': bytes(range(256)) * 777}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, and parts of them (Range: bytes=N-); notes what was asked for."""

    asked = []

    def do_GET(self):
        wanted = re.match(r'bytes=(\d+)-$', self.headers.get('Range', ''))
        start = int(wanted.group(1)) if wanted else 0
        self.asked.append((os.path.basename(self.path), start))
        with open(self.translate_path(self.path), 'rb') as file:
            content = file.read()
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header('Content-Range', 'bytes {}-{}/{}'.format(start, len(content) - 1, len(content)))
        self.send_header('Content-Length', str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])

    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path):
    """(folder of the script's copy, get(*arguments) -> CompletedProcess, what the server was asked for)."""
    folder = tmp_path / 'checkpoints'
    folder.mkdir()
    shutil.copy(SCRIPT, str(folder))
    (tmp_path / 'site' / 'resnet18' / 'mirror').mkdir(parents=True)
    for ending, content in ENDINGS.items():
        (tmp_path / 'site' / (PREFIX + ending)).write_bytes(content)
    here = os.getcwd()
    os.chdir(str(tmp_path / 'site'))  # Python 3.7's handler takes this folder on both runtimes
    server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    del Handler.asked[:]

    def get(*arguments, url='http://127.0.0.1:{}'.format(server.server_port)):
        return subprocess.run([str(folder / 'get_checkpoints.sh')] + list(arguments), env=dict(os.environ, CHECKPOINTS_URL=url),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    yield folder, get, Handler.asked
    server.shutdown()
    server.server_close()
    os.chdir(here)


def whole(folder):
    return {ending: (folder / (PREFIX + ending)).read_bytes() for ending in ENDINGS} == ENDINGS


def test_a_checkpoint_comes_whole_once_and_its_sums_are_kept(site):
    folder, get, asked = site
    process = get('resnet18', 'mirror')
    assert process.returncode == 0, process.stderr
    assert whole(folder) and 'checkpoints/{} is whole'.format(PREFIX) in process.stdout
    assert (folder / 'checksums.txt').read_text().splitlines() == [
        '{} {} {}'.format(hashlib.sha256(content).hexdigest(), len(content), PREFIX + ending)
        for ending, content in ENDINGS.items()]
    assert len(asked) == 3 and get('resnet18', 'mirror').returncode == 0 and len(asked) == 3


def test_an_interrupted_download_goes_on(site):
    folder, get, asked = site
    (folder / 'resnet18' / 'mirror').mkdir(parents=True)
    data = ENDINGS['.data-00000-of-00001']
    (folder / (PREFIX + '.data-00000-of-00001.part')).write_bytes(data[:10001])
    assert get('resnet18', 'mirror').returncode == 0
    assert whole(folder) and ('model.ckpt-126250.data-00000-of-00001', 10001) in asked


def test_a_changed_file_is_named(site):
    folder, get, _ = site
    get('resnet18', 'mirror')
    (folder / (PREFIX + '.index')).write_bytes(b'x')
    process = get('resnet18', 'mirror')
    assert process.returncode == 1 and PREFIX + '.index is not what was downloaded' in process.stderr


def test_a_file_that_the_server_lacks_is_named(site):
    folder, get, _ = site
    process = get('resnet50', 'symmetric')
    assert process.returncode == 1 and len(process.stderr.splitlines()) == 1
    assert 'has no resnet50/symmetric/model.ckpt-450360.meta' in process.stderr


def test_without_network_there_is_one_sentence(site):
    folder, get, _ = site
    process = get('resnet18', 'mirror', url='http://127.0.0.1:9')
    assert process.returncode == 1 and len(process.stderr.splitlines()) == 1 and 'cannot be reached' in process.stderr
    assert not (folder / 'checksums.txt').exists()


@pytest.mark.parametrize('arguments', [(), ('resnet34', 'mirror'), ('resnet50', 'mirror'), ('resnet18', 'none'), ('x',)])
def test_what_does_not_exist_is_refused(site, arguments):
    process = site[1](*arguments)
    assert process.returncode == 2 and process.stderr.splitlines()[-1].startswith('error: ')
