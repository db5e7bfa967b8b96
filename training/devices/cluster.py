"""Reads and checks the list of hosts of a training."""

import contextlib
import dataclasses
import ipaddress
import json
import os
import socket
from typing import List, Optional, Sequence

from config.rows import shown
from config.schema import Config, ConfigError

# TF_CONFIG's names for the process that also validates and saves, and for the other processes, in
# the order of their tasks.
TYPES = ('chief', 'worker')


def with_cluster(config: Config, text: Optional[str]) -> Config:
    """Returns a Config with the hosts of TF_CONFIG, unless --worker_hosts names hosts already.

    Args:
        config: The settings.
        text: The value of the environment variable TF_CONFIG, in TensorFlow's format:
            {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}.
            A "chief" counts as the first worker. None, or a cluster of one host, changes nothing.

    Raises:
        ConfigError: The text is not valid.
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
            f'TF_CONFIG={text}: it must be JSON like {{"cluster": {{"worker": ["host:port", ...]}}'
            ', "task": {"type": "worker", "index": 0}}; correct it, or unset it'
        )
    if others or (cluster and task.get('type') not in TYPES):
        raise ConfigError(
            f'TF_CONFIG={text}: all hosts must be workers, and the first may be called chief; this '
            f'program has no {", ".join(others) or "task of the type " + str(task.get("type"))}'
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
    """Returns the reasons why hosts cannot do what a Config asks for, one sentence each."""
    if not config.worker_hosts:
        return []
    problem = problem_of(config)
    return ([problem] if problem else []) + (
        ['--skip_bad_records and --worker_hosts cannot be combined; leave out one of them']
        if config.skip_bad_records
        else []
    )


def problem_of(config: Config) -> Optional[str]:
    """Returns what is wrong with the hosts of a Config, or None."""
    hosts = config.worker_hosts
    wrong = [host for host in hosts if not _is_address(host)]
    if wrong:
        names = [host if isinstance(host, str) else shown(host) for host in wrong]
        return f'--worker_hosts: {", ".join(names)} must be host:port'
    if len(hosts) == 1 or len(set(hosts)) < len(hosts):
        return f'--worker_hosts={",".join(hosts)}: name at least two hosts, each of them once'
    if config.task_index is None or config.task_index >= len(hosts):
        return (
            '--task_index must be the index of this process in --worker_hosts, 0 to '
            f'{len(hosts) - 1}'
        )
    return None


def _is_address(text: object) -> bool:
    host, _, port = text.rpartition(':') if isinstance(text, str) else ('', '', '')
    return bool(host) and port.isdigit() and 0 < int(port) < 65536


def public(hosts: Sequence[str]) -> List[str]:
    """Returns those of some hosts whose address the whole internet can reach.

    A name that cannot be looked up is not one of them: TensorFlow will report it.

    Args:
        hosts: The addresses, 'host:port' each.
    """
    found = []
    for each in hosts:
        name, _, port = each.rpartition(':')
        with contextlib.suppress(OSError, UnicodeError):
            known = socket.getaddrinfo(name.strip('[]'), int(port), type=socket.SOCK_STREAM)
            addresses = {str(place[0]).partition('%')[0] for *_, place in known}
            if any(ipaddress.ip_address(address).is_global for address in addresses):
                found.append(each)
    return found


def without_proxy(hosts: Sequence[str]) -> None:
    """Excludes hosts from the HTTP proxy, which TensorFlow's servers would otherwise use.

    Args:
        hosts: The addresses, 'host:port' each.
    """
    names = sorted({host.rpartition(':')[0] for host in hosts})
    for variable in ('no_grpc_proxy', 'no_proxy'):
        before = os.environ.get(variable)
        os.environ[variable] = ','.join(([before] if before else []) + names)
