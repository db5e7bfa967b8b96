"""What the tests of a server that goes away share."""

import pytest

from database import connection, writer


@pytest.fixture
def impatient(monkeypatch):
    """A server that is away is given up after a second, not after three, and soon tried again."""
    monkeypatch.setattr(connection, 'ANSWER_S', 1.0)
    monkeypatch.setattr(writer, 'LONGEST_PAUSE_S', 0.2)
