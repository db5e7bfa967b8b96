"""The folder of the programs, such as train.py."""

import os

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
