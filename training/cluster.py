"""Several hosts: which they are, and a watch that tells when one of them is gone."""
import dataclasses
import json
import os
import socket
import sys
import threading
import time

from config.schema import ConfigError

# TF_CONFIG's name for the process that also validates and saves, and for the others, in the order of their tasks.
TYPES = ('chief', 'worker')
TRY_AGAIN = 1.0      # seconds between two looks at a host
NO_ANSWER = 5.0      # seconds after which one look is given up
REFUSED, SILENT = 2, 3  # looks one after the other of which none found the process, or the machine
LINGER = 4           # looks of the others
PATIENCE = 10.0      # seconds for this process to end by itself once a host is gone
TELL_AFTER = 5.0     # seconds after which it is told for which hosts we wait


def with_cluster(config, text):
    """A Config with the hosts of TF_CONFIG, TensorFlow's convention, where its flags name none.

    text: the environment variable's, {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}; a
    "chief" counts as the first worker. None or a cluster of one host change nothing. Raises ConfigError.
    """
    if not text or config.worker_hosts:
        return config
    try:
        value = json.loads(text)
        cluster, task = value.get('cluster', {}), value.get('task', {})
        others = sorted(set(cluster) - set(TYPES))
        hosts = {kind: list(cluster.get(kind, [])) for kind in TYPES}
        index = (len(hosts['chief']) if task.get('type') == 'worker' else 0) + int(task.get('index', 0))
    except (ValueError, TypeError, AttributeError):
        raise ConfigError('TF_CONFIG={}: it must be JSON, {{"cluster": {{"worker": ["host:port", ...]}}, "task": {{"type": '
                          '"worker", "index": 0}}}}; set it so, or unset it'.format(text))
    if others or (cluster and task.get('type') not in TYPES):
        raise ConfigError('TF_CONFIG={}: here all hosts are workers, the first of which may be called chief; there is no '
                          '{}'.format(text, ', '.join(others) or 'task of the type {}'.format(task.get('type'))))
    hosts = tuple(hosts['chief'] + hosts['worker'])
    if len(hosts) < 2:
        return config
    config = dataclasses.replace(config, worker_hosts=hosts, task_index=index)
    problem = problem_of(config)
    if problem:
        raise ConfigError('TF_CONFIG: ' + problem)
    return config


def problem_of(config):
    """None, or what is wrong with the hosts of a Config."""
    hosts = config.worker_hosts
    wrong = [host for host in hosts if not _is_address(host)]
    if wrong:
        return '--worker_hosts: {} must be host:port'.format(', '.join(str(host) for host in wrong))
    if len(hosts) == 1 or len(set(hosts)) < len(hosts):
        return '--worker_hosts={}: name at least two, each once'.format(','.join(hosts))
    if config.task_index is None or config.task_index >= len(hosts):
        return '--task_index must say which of --worker_hosts this process is, 0 to {}'.format(len(hosts) - 1)
    return None


def _is_address(text):
    host, _, port = text.rpartition(':') if isinstance(text, str) else ('', '', '')
    return bool(host) and port.isdigit() and 0 < int(port) < 65536


def without_proxy(hosts):
    """Let this process reach hosts, a list of 'host:port', directly: TensorFlow's servers would go through an HTTP proxy."""
    names = sorted({host.rpartition(':')[0] for host in hosts})
    for variable in ('no_grpc_proxy', 'no_proxy'):
        before = os.environ.get(variable)
        os.environ[variable] = ','.join(([before] if before else []) + names)


class Watch:
    """Looks whether the other hosts are there: each listens on its port as long as its process lives.

    hosts: ['host:port', ...]. own: the index of this process. at_loss: called before this process is ended because a host is
    gone. Within its context, a process that does not end by itself within PATIENCE after that is ended, with exit code 1.
    """

    def __init__(self, hosts, own, at_loss=lambda: None):
        self._others = [(index, host) for index, host in enumerate(hosts) if index != own]
        self._at_loss = at_loss
        self._lost = threading.Event()
        self._over = threading.Event()
        self._name = None

    def wait(self, seconds, say):
        """Until all are there, for so many seconds at most. say: prints a line. Raises ConfigError that names the missing."""
        started, told = time.time(), False
        missing = self._others
        while True:
            missing = [(index, host) for index, host in missing if _look(host) is not None]
            waited = time.time() - started
            if not missing:
                return
            names = _names(missing)
            if waited > seconds:
                raise ConfigError('--worker_hosts: no process answers at {} after {:.0f} s; start the same command there, with '
                                  'its own --task_index'.format(names, waited))
            if waited > TELL_AFTER and not told:
                say('waiting for ' + names)
                told = True
            time.sleep(TRY_AGAIN)

    def gone(self, seconds):
        """The name of a host that is gone, waiting so long for the watch to find out; None where all are there.

        Where one is, this takes so long that all others find out, too, before this process goes and is taken for the first.
        """
        if self._lost.wait(seconds):
            time.sleep(LINGER * TRY_AGAIN)
        return self._name

    def __enter__(self):
        for other in self._others:
            threading.Thread(target=self._look_after, args=[other], daemon=True).start()
        threading.Thread(target=self._end, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._over.set()

    def _look_after(self, other):
        failures = {}
        while not self._over.wait(TRY_AGAIN):
            failure = _look(other[1])
            failures = {failure: failures.get(failure, 0) + 1} if failure else {}
            if failures.get(ConnectionRefusedError, 0) >= REFUSED or failures.get(OSError, 0) >= SILENT:
                self._name = self._name or _names([other])
                self._lost.set()
                return

    def _end(self):
        self._lost.wait()
        if not self._over.wait(PATIENCE):  # the runtime waits for the host that is gone, and would do so for ever
            self._at_loss()
            print('error: ' + lost(self._name), file=sys.stderr, flush=True)
            os._exit(1)


def lost(name):
    """What a user is told when a host is gone."""
    return ('{} is gone; look there for the reason, then start the same commands again with --do_restore: they continue from the '
            'newest checkpoint'.format(name))


def _names(hosts):
    return ', '.join('host {} (task {})'.format(host, index) for index, host in hosts)


def _look(host):
    """None where a process listens there; else ConnectionRefusedError, the machine's answer, or OSError, none at all."""
    name, _, port = host.rpartition(':')
    try:
        socket.create_connection((name, int(port)), NO_ANSWER).close()
    except ConnectionRefusedError:
        return ConnectionRefusedError
    except OSError:
        return OSError
    return None
