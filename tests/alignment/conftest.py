"""Puts the recipe of tests/golden/reference.py on the path: its streams give these tests their
numbers, too.
"""

import os
import sys

sys.path.insert(
    0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'golden')
)
