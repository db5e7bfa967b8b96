"""Several hosts: which they are."""

import dataclasses
import json
import os
from typing import List, Optional, Sequence

from config.schema import Config, ConfigError

# TF_CONFIG's name for the process that also validates and saves, and for the others, in the order
# of their tasks.
TYPES = ('chief', 'worker')


def with_cluster(config: Config, text: Optional[str]) -> Config:
    """A Config with the hosts of TF_CONFIG, TensorFlow's convention, where its flags name none.

    text: the environment variable's, {"cluster": {"worker": ["host:port", ...]}, "task": {"type":
    "worker", "index": 0}}; a "chief" counts as the first worker. None or a cluster of one host
    change nothing. Raises ConfigError.
    """
    if not text or config.worker_hosts:
        return config
    try:
        value = json.loads(text)
        cluster, task = value.get('cluster', {}), value.get('task', {})
        others = sorted(set(cluster) - set(TYPES))
        hosts = {kind: list(cluster.get(kind, [])) for kind in TYPES}
        index = (len(hosts['chief']) if task.get('type') == 'worker' else 0) + int(
            task.get('index', 0)
        )
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(
            f'TF_CONFIG={text}: it must be JSON, {{"cluster": {{"worker": ["host:port", ...]}}, '
            '"task": {"type": "worker", "index": 0}}; set it so, or unset it'
        )
    if others or (cluster and task.get('type') not in TYPES):
        raise ConfigError(
            f'TF_CONFIG={text}: here all hosts are workers, the first of which may be called '
            f'chief; there is no {", ".join(others) or "task of the type " + str(task.get("type"))}'
        )
    names = tuple(hosts['chief'] + hosts['worker'])
    if len(names) < 2:
        return config
    config = dataclasses.replace(config, worker_hosts=names, task_index=index)
    problem = problem_of(config)
    if problem:
        raise ConfigError('TF_CONFIG: ' + problem)
    return config


def refusals(config: Config) -> List[str]:
    """Why no hosts can do what a Config asks for: a sentence for each reason."""
    if not config.worker_hosts:
        return []
    problem = problem_of(config)
    return ([problem] if problem else []) + (
        ['--skip_bad_records and --worker_hosts do not go together; leave out one of them']
        if config.skip_bad_records
        else []
    )


def problem_of(config: Config) -> Optional[str]:
    """None, or what is wrong with the hosts of a Config."""
    hosts = config.worker_hosts
    wrong = [host for host in hosts if not _is_address(host)]
    if wrong:
        return '--worker_hosts: {} must be host:port'.format(', '.join(str(host) for host in wrong))
    if len(hosts) == 1 or len(set(hosts)) < len(hosts):
        return '--worker_hosts={}: name at least two, each once'.format(','.join(hosts))
    if config.task_index is None or config.task_index >= len(hosts):
        return (
            f'--task_index must say which of --worker_hosts this process is, 0 to {len(hosts) - 1}'
        )
    return None


def _is_address(text: object) -> bool:
    host, _, port = text.rpartition(':') if isinstance(text, str) else ('', '', '')
    return bool(host) and port.isdigit() and 0 < int(port) < 65536


def without_proxy(hosts: Sequence[str]) -> None:
    """Let this process reach hosts, a list of 'host:port', directly: TensorFlow's servers would go
    through an HTTP proxy.
    """
    names = sorted({host.rpartition(':')[0] for host in hosts})
    for variable in ('no_grpc_proxy', 'no_proxy'):
        before = os.environ.get(variable)
        os.environ[variable] = ','.join(([before] if before else []) + names)
