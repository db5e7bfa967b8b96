"""A fixture for the tests of a server that stops answering."""

import pytest

from database import connection, writer


@pytest.fixture
def impatient(monkeypatch):
    """Shortens the time-out for a server from 3 s to 1 s, and the pause between retries."""
    monkeypatch.setattr(connection, 'ANSWER_S', 1.0)
    monkeypatch.setattr(writer, 'LONGEST_PAUSE_S', 0.2)
