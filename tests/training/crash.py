"""A process that crashes while it watches another host: python crash.py HOST:PORT."""

import ctypes
import sys

from training import runtime
from training.devices import watch

runtime.HOSTS_CRASH = True
watch.TRY_AGAIN, watch.NO_ANSWER = 0.05, 0.5
with watch.Watch(['own:1', sys.argv[1]], 0, lambda: print('flushed', flush=True)):
    ctypes.CDLL(None).strlen(None)
