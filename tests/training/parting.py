"""One of two hosts, of which the second is slow at the end: python parting.py TASK HOSTS CODE."""

import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(os.path.dirname(HERE))]

from training import runtime  # noqa: E402, F401 (first: it prepares TensorFlow)

from training.devices import watch  # noqa: E402
from training.devices.hosts import Hosts  # noqa: E402
from training.errors import Stopped  # noqa: E402


def main(own, hosts, code):
    """Does one exchange with the other host, and ends with an exit code."""
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
    watch.TRY_AGAIN, watch.PATIENCE = 0.1, 0.5
    device = Hosts(hosts.split(','), int(own), ['0'])
    try:
        with device.ready():
            assert device.shared([int(own) + 3]) == [3]
            if own == '1':
                time.sleep(3)
            if int(code):
                raise Stopped(int(code) - 128, agreed=True)
    except Stopped as stopped:
        sys.exit(stopped.exit_code)


if __name__ == '__main__':
    main(*sys.argv[1:])
