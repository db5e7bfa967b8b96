"""Makes commands.py of tests/cli importable: the examples in the documents are commands."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'cli'))
