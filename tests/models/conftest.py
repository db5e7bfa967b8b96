"""Puts what these tests share with others on the path: golden/reference.py and skeleton.py,
alignment/oracle.py.
"""

import os
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TESTS, folder) for folder in ('golden', 'alignment')]
