"""Serves the page to a browser on this machine, and gives it new data while runs go on."""

import http.server
import threading
import time
from typing import Callable, Optional

from database.errors import StoreError
from reports import sections
from reports.page import data, document
from reports.page.data import Contents

ADDRESS = '127.0.0.1'  # no other machine can connect
HEADERS = {
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Resource-Policy': 'same-origin',
}


class Source:
    """What the server answers with. The database is read again when the last answer is too old.

    Args:
        look: Reads the database.
        every_s: Seconds for which an answer is used.
    """

    def __init__(self, look: Callable[[], Contents], every_s: float) -> None:
        self._look, self._every_s = look, every_s
        self._lock = threading.Lock()
        self._contents: Optional[Contents] = None
        self._until = 0.0

    def contents(self) -> Contents:
        """Returns what the page shows.

        Raises:
            StoreError: The database cannot be read.
        """
        with self._lock:
            if self._contents is None or time.monotonic() >= self._until:
                self._contents = self._look()
                self._until = time.monotonic() + self._every_s
            return self._contents

    def page(self) -> str:
        """Returns the page."""
        return document.of(self.contents())

    def data(self) -> str:
        """Returns its data."""
        contents = self.contents()
        return data.text(contents, sections.of(contents.runs, contents.whole))


class Server(http.server.ThreadingHTTPServer):
    """A server of the page and of its data.

    Args:
        source: What it answers with.
        port: The TCP port, or 0 for any free one.

    Raises:
        OSError: The port is in use.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, source: Source, port: int) -> None:
        super().__init__((ADDRESS, port), Handler)
        self.source = source

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        return f'http://{ADDRESS}:{self.server_port}/'


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers a request of a browser."""

    server: Server
    server_version, sys_version = 'report', ''

    def do_GET(self) -> None:
        """Answers with the page, with its data, or with an error.

        A request that names another host is refused: the page of a stranger could have sent it,
        under a host name that points to this machine.
        """
        known = [f'{host}:{self.server.server_port}' for host in (ADDRESS, 'localhost')]
        if self.headers.get('Host') not in known:
            return self._answer(403, 'text/plain', 'The page is served to this machine alone.')
        source = self.server.source
        answers = {
            '/': ('text/html', source.page),
            '/data.json': ('application/json', source.data),
        }
        if self.path not in answers:
            return self._answer(404, 'text/plain', 'There is nothing here.')
        kind, answer = answers[self.path]
        try:
            text = answer()
        except StoreError as error:
            return self._answer(503, 'text/plain', str(error))
        return self._answer(200, kind, text)

    def _answer(self, code: int, kind: str, text: str) -> None:
        body = text.encode('utf-8')
        self.send_response(code)
        self.send_header('Content-Type', f'{kind}; charset=utf-8')
        self.send_header('Content-Length', str(len(body)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing: a terminal would be full of requests."""
