"""Puts tests/golden on the path: these tests draw their numbers as its reference.py does."""

import os
import sys

sys.path.insert(
    0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'golden')
)
