"""A local web server for the download scripts: complete files, parts of them, and failures."""

import contextlib
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import threading

import commands

LIBRARY = os.path.join('config', 'download.sh')


class Site:
    """What the server holds, how it behaves, and the requests that it received.

    Attributes:
        files: {path: bytes}.
        cut: {path: number of bytes after which its next transfer ends}.
        stale: {path: content whose version HEAD reports instead}.
        asked: [(method, path, first byte)], one for each request.
        validators: Whether the server reports versions.
    """

    def __init__(self, files):
        self.files, self.cut, self.stale, self.asked, self.validators, self.url = (
            dict(files),
            {},
            {},
            [],
            True,
            None,
        )


def _handler(site):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(site.stale.get(self.path[1:], site.files.get(self.path[1:])), False)

        def do_GET(self):
            self.answer(site.files.get(self.path[1:]), True)

        def answer(self, content, has_body):
            path = self.path[1:]
            if content is None:
                site.asked.append((self.command, path, None))
                return self.send_error(404)
            etag = f'"{hashlib.md5(content).hexdigest()}"'
            wanted = re.match(r'bytes=(\d+)-$', self.headers.get('Range', ''))
            start = (
                int(wanted.group(1)) if wanted and self.headers.get('If-Range', etag) == etag else 0
            )
            site.asked.append((self.command, path, start))
            self.send_response(206 if start else 200)
            if start:
                self.send_header(
                    'Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}'
                )
            if site.validators:
                self.send_header('ETag', etag)
            self.send_header('Content-Length', str(len(content) - start))
            self.end_headers()
            if has_body:
                self.wfile.write(content[start : site.cut.pop(path, None)])

        def log_message(self, *args):
            pass

    return Handler


@contextlib.contextmanager
def serving(files):
    """Context manager: a Site that answers at its url."""
    site = Site(files)
    server = http.server.HTTPServer(('127.0.0.1', 0), _handler(site))
    threading.Thread(
        target=server.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True
    ).start()
    site.url = f'http://127.0.0.1:{server.server_port}'
    yield site
    server.shutdown()
    server.server_close()


def copy(script, root):
    """Copies a script and the files that it reads into a folder; returns its path there."""
    for path in (script, LIBRARY):
        (root / os.path.dirname(path)).mkdir(exist_ok=True)
        shutil.copy(os.path.join(commands.ROOT, path), str(root / path))
    return str(root / script)


def call(words, cwd=None, **variables):
    """Runs a program with these variables added to our environment; returns a commands.Done."""
    done = subprocess.run(
        words,
        env=dict(os.environ, **variables),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return commands.Done(done.returncode, done.stdout, done.stderr)


# The tools that the scripts may use; Python is not one of them.
TOOLS = ('awk', 'cat', 'cut', 'dirname', 'mkdir', 'mv', 'rm', 'sha256sum', 'tr', 'wc')
CURL = r"""#!/bin/sh
for word; do
    case $word in --head) method=HEAD ;; http*) url=$word ;; esac
    [ "$before" != --output ] || output=$word
    before=$word
done
echo "${method:-GET} $url" >>'NOTES'
if [ "$method" = HEAD ]; then
    printf 'HTTP/1.1 200 OK\r\nContent-Length: %s\r\nETag: "one"\r\n\r\n' ${#url}
else
    printf %s "$url" >"$output"
fi
"""


def asked_by_default(script, root):
    """Returns the [(method, URL)] that a script requests without arguments.

    Its environment holds only PATH. A stand-in for curl comes first on the PATH: it notes each
    request, and returns the URL as the content of the file.
    """
    path, notes, tools = copy(script, root), root / 'notes', root / 'tools'
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))
    (tools / 'curl').write_text(CURL.replace('NOTES', str(notes)))
    (tools / 'curl').chmod(0o755)
    done = subprocess.run([path], env=dict(PATH=str(tools)), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '')
    return [tuple(line.split(' ')) for line in notes.read_text().splitlines()]
