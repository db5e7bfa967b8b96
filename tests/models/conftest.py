"""Puts tests/golden (reference.py, skeleton.py) and tests/alignment (oracle.py) on the path."""

import os
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TESTS, folder) for folder in ('golden', 'alignment')]
