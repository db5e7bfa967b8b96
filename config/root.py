"""Where the programs lie: train.py and its like."""

import os

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
