"""Several hosts, each a process with several devices, compute the same step as a single device.

Each batch is split over the hosts.
"""

import io
import os
import pickle
import re
import socket
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import data
import host
import tiers
import tiny
from config.schema import ConfigError
from training import devices, overview
from training.devices import cluster, watch

CRASH = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'crash.py')
PARTING = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'parting.py')
ONE = dict(
    gpu='0', cpu_devices=None, minibatch_size=None, iterations_per_loop=None, sync_batch_norm=False
)


def listening():
    """Yields a socket that listens like a server, and its 'host:port'."""
    bound = socket.socket()
    bound.bind(('127.0.0.1', 0))
    bound.listen(128)
    return bound, f'127.0.0.1:{bound.getsockname()[1]}'


@pytest.fixture(scope='module')
def outcomes(forks, tmp_path_factory, free_address):
    """Returns a function: case -> [tiny.train of the case by each of two hosts].

    The hosts run all cases of the day in one go, and all cases of the night in another.
    """
    found = {}

    def train(names):
        folder = tmp_path_factory.mktemp('hosts')
        hosts = ','.join([free_address(), free_address()])
        paths = [str(folder / str(own)) for own in range(2)]
        running = [
            forks.start(host.__file__, str(own), hosts, path, *names)
            for own, path in enumerate(paths)
        ]
        said = [''.join(process.communicate()) for process in running]
        assert [process.returncode for process in running] == [0, 0], '\n'.join(said)
        for path in paths:
            with open(path, 'rb') as file:
                for name, outcome in pickle.load(file).items():
                    found.setdefault(name, []).append(outcome)

    def of(case):
        if case not in found:
            at_night = case in host.AT_NIGHT
            train([name for name in host.CASES if (name in host.AT_NIGHT) == at_night])
        return found[case]

    return of


@pytest.mark.parametrize(
    'hosts, public',
    [
        (['127.0.0.1:7000', 'localhost:7001', '10.1.2.3:7000', '192.168.7.7:7001'], []),
        (['172.16.0.9:7000', '169.254.1.1:7000', '100.64.0.1:7001'], []),
        (['8.8.8.8:7000', '10.1.2.3:7000'], ['8.8.8.8:7000']),
        (['[2001:4860:4860::8888]:7000', '[::1]:7000', '[fd00::1]:7000'], [0]),
        (['no.such.name.invalid:7000', 'x' * 300 + ':7000'], []),
    ],
)
def test_public_addresses_are_found(hosts, public):
    assert cluster.public(hosts) == [hosts[each] if each == 0 else each for each in public]


def test_a_host_with_a_public_address_is_refused_before_its_server_starts(monkeypatch):
    monkeypatch.setattr(
        socket, 'getaddrinfo', lambda *args, **kwargs: [(2, 1, 6, '', ('93.184.216.34', 7000))]
    )
    monkeypatch.setattr(tf.train, 'Server', lambda *args, **kwargs: pytest.fail('it started'))
    device = devices.choose(
        tiny.config(worker_hosts=('one.example:7000', 'two.example:7000'), task_index=0, **ONE)
    )
    with pytest.raises(ConfigError, match='one.example:7000, two.example:7000 has a public'):
        with device.ready():
            pass


@pytest.fixture(autouse=True, scope='module')
def pixels():
    """Registers a data set whose images a ResNet can process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATASETS, 'pixels', host.PIXELS)
        patch.setitem(data.DATASETS, 'large', host.LARGE)
        yield


def alone(case, **more):
    """Returns what a single device computes in place of all hosts."""
    steps, settings = host.CASES[case]
    history, scalars = tiny.reference(steps, **dict(settings, **dict(ONE, **more)))
    return [history[0], history[-1]], scalars


# Cases in which one device computes something different.
OWN = ('noise', 'float16', 'batch norm, statistics of each part')
BY_DAY = [name for name in host.CASES if name not in host.AT_NIGHT]


@pytest.mark.slow
@pytest.mark.parametrize(
    'case', [case for case in BY_DAY if case not in OWN] + tiers.at_night(*host.AT_NIGHT)
)
def test_hosts_give_the_steps_of_one_device(outcomes, case):
    found = tiny.differences(alone(case), outcomes(case)[0])
    assert tiny.beyond(found, 1e-5 if host.CASES[case][0] == 1 else 1e-4) == {}


@pytest.mark.slow
def test_hosts_compute_in_float16_under_one_scale(outcomes):
    assert tiny.beyond(tiny.differences(alone('float16'), outcomes('float16')[0]), 2e-2) == {}


@pytest.mark.slow
@pytest.mark.parametrize('case', BY_DAY + tiers.at_night(*host.AT_NIGHT))
def test_the_variables_of_all_hosts_stay_the_same(outcomes, case):
    """The hosts started with different values.

    Only statistics that each host tracks for its own part differ.
    """
    (first, scalars), (second, others) = outcomes(case)
    own = (
        tiny.named(first[0], 'moving_mean') | tiny.named(first[0], 'moving_variance')
        if case == OWN[-1]
        else set()
    )
    assert tiny.moved(first[0], second[0]) == set() and tiny.moved(first[-1], second[-1]) == own
    assert (
        first[-1]['global_step'] == second[-1]['global_step'] == len(scalars) == host.CASES[case][0]
    )
    assert [{name: float(value) for name, value in step.items()} for step in scalars] == [
        {name: float(value) for name, value in step.items()} for step in others
    ]


@pytest.mark.slow
def test_hosts_draw_the_noise_of_as_many_parts(outcomes):
    """Two hosts, with two devices of three parts each, draw like twelve parts on one device."""
    found = outcomes('noise')[0]
    assert tiny.beyond(tiny.differences(alone('noise', minibatch_size=1), found), 1e-4) == {}
    other = tiny.differences(alone('noise'), found)
    assert set(tiny.beyond(other, 1e-3)) >= tiny.named(found[0][0], 'backward_kernel')
    assert other['model_loss'] < 1e-5


# --- who they are ---------------------------------------------------------------------------------

HOSTS = ('h1:1', 'h2:2', 'h3:3')
TF_CONFIG = (
    '{"cluster": {"worker": ["h1:1", "h2:2", "h3:3"]}, "task": {"type": "worker", "index": 2}}'
)


@pytest.mark.parametrize(
    'text, hosts, index',
    [
        (None, (), None),
        ('', (), None),
        ('{}', (), None),
        (TF_CONFIG, HOSTS, 2),
        (TF_CONFIG.replace('2}', '"1"}'), HOSTS, 1),
        ('{"cluster": {"worker": ["h1:1"]}, "task": {"type": "worker", "index": 0}}', (), None),
        (
            '{"cluster": {"chief": ["h1:1"], "worker": ["h2:2", "h3:3"]}, "task": {"type": '
            '"worker", "index": 1}}',
            HOSTS,
            2,
        ),
        (
            '{"cluster": {"chief": ["h1:1"], "worker": ["h2:2", "h3:3"]}, "task": {"type": '
            '"chief", "index": 0}}',
            HOSTS,
            0,
        ),
    ],
)
def test_tf_config_tells_the_hosts(text, hosts, index):
    found = cluster.with_cluster(tiny.config(), text)
    assert (found.worker_hosts, found.task_index) == (hosts, index)


def test_flags_come_before_tf_config():
    config = tiny.config(worker_hosts=('a:1', 'b:1'), task_index=0)
    assert cluster.with_cluster(config, TF_CONFIG) is config


@pytest.mark.parametrize(
    'text, words',
    [
        ('{', 'it must be JSON'),
        ('[]', 'it must be JSON'),
        ('{"cluster": 3}', 'it must be JSON'),
        (TF_CONFIG.replace('"index": 2', '"index": "x"'), 'it must be JSON'),
        (
            TF_CONFIG.replace('"index": 2', '"index": 3'),
            '--task_index must be the index of this process in --worker_hosts, 0 to 2',
        ),
        (TF_CONFIG.replace('h2:2', 'h2'), '--worker_hosts: h2 must be host:port'),
        (
            TF_CONFIG.replace('"type": "worker"', '"type": "evaluator"'),
            'has no task of the type evaluator',
        ),
        (TF_CONFIG.replace('{"worker"', '{"ps": ["h9:9"], "worker"'), 'has no ps'),
    ],
)
def test_a_tf_config_that_cannot_be_is_refused(text, words):
    with pytest.raises(ConfigError, match='TF_CONFIG.*' + words):
        cluster.with_cluster(tiny.config(), text)


@pytest.mark.parametrize(
    'settings, words',
    [
        (
            dict(worker_hosts=('a:1',), task_index=0),
            '--worker_hosts=a:1: name at least two hosts, each of them once',
        ),
        (dict(worker_hosts=('a:1', 'a:1'), task_index=0), 'name at least two hosts, each'),
        (
            dict(worker_hosts=('a:1', ':2', 'b:x', 'c:70000'), task_index=0),
            '--worker_hosts: :2, b:x, c:70000 must be host:port',
        ),
        (
            dict(worker_hosts=HOSTS),
            '--task_index must be the index of this process in --worker_hosts, 0 to 2',
        ),
        (dict(worker_hosts=HOSTS, task_index=3), '--task_index must be the index'),
        (
            dict(worker_hosts=HOSTS, task_index=0, train_batch_size=10),
            '--train_batch_size=10 cannot be split evenly over the 1 devices of --gpu=0 on each '
            'of 3 hosts; choose a multiple of 3',
        ),
        (
            dict(worker_hosts=HOSTS, task_index=0, skip_bad_records=1),
            '--skip_bad_records and --worker_hosts cannot be combined',
        ),
        (
            dict(worker_hosts=HOSTS, task_index=0, xla=True),
            '--xla can only compile the steps of a single device',
        ),
        (
            dict(worker_hosts=HOSTS, task_index=0, tpu_name='mine', train_batch_size=24),
            'is for GPUs and CPUs',
        ),
    ],
)
def test_hosts_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        devices.choose(tiny.config(**settings))


def test_the_overview_tells_the_hosts():
    exp = tiny.experiment(worker_hosts=HOSTS, task_index=1, cpu_devices=2, gpu='0,1')
    lines = '\n'.join(overview.experiment(exp, exp.device))
    assert 'a batch: 12 images, 2 on each of 6 replicas, 3 hosts\n' in lines
    assert (
        not exp.device.leads and devices.choose(tiny.config(worker_hosts=HOSTS, task_index=0)).leads
    )


# --- the watch ------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Makes the watch look often."""
    monkeypatch.setattr(watch, 'TRY_AGAIN', 0.05)
    monkeypatch.setattr(watch, 'TELL_AFTER', 0.1)


def test_a_host_that_never_comes_is_named(quick, free_address):
    server, there = listening()
    missing, said = free_address(), []
    with server, pytest.raises(
        ConfigError, match=f'no process answers at host {missing} .task 2. after'
    ):
        watch.Watch(['own:1', there, missing], 0).wait(0.3, said.append)
    assert said == [f'waiting for host {missing} (task 2)']


def test_the_watch_waits_for_all_and_names_the_one_that_goes(quick):
    (server, there), (other, goes) = listening(), listening()
    others = watch.Watch([there, 'own:1', goes], 1)
    with server:
        others.wait(5, pytest.fail)
        with others:
            assert others.gone(0.5) == []
            other.close()
            found = others.gone(30)
    assert found == [(2, goes)] and watch.lost(found).startswith(f'host {goes} (task 2) is gone;')


def test_the_watch_names_all_that_are_gone_when_it_finds_out(quick):
    """A host that noticed earlier may have stopped as well, because the first one was lost."""
    listeners = [listening() for _ in range(3)]
    addresses = [address for _, address in listeners]
    others = watch.Watch(addresses, 0)
    with listeners[0][0]:
        for server, _ in listeners[1:]:
            server.close()
        with others:
            found = others.gone(30)
    assert found == [(1, addresses[1]), (2, addresses[2])]
    assert watch.lost(found).startswith(
        'host {} (task 1), host {} (task 2) are gone;'.format(*addresses[1:])
    )


@pytest.mark.slow
@pytest.mark.parametrize('loses', [True, False])
def test_a_process_that_crashes_tells_which_host_is_gone(forks, free_address, loses):
    """TensorFlow 1.13.2 crashes when another host is lost; see watch.Watch."""
    server, there = listening()
    with server:
        done = forks.run(CRASH, free_address() if loses else there)
    assert done.code == 1 and done.out == 'flushed\n'
    assert done.err.splitlines()[-1].startswith(
        'error: ' + ('host 127.0.0.1:' if loses else 'TensorFlow crashed')
    )
    # the place of the crash is only shown if no lost host explains it
    assert bool(re.search(r'crash\.py", line 12 in <module>', done.err)) == (not loses)


def test_a_port_that_is_taken_is_told():
    server, there = listening()
    with server, pytest.raises(
        ConfigError, match=f'this process, task 0, cannot listen at {there}'
    ):
        with devices.choose(tiny.config(worker_hosts=(there, 'b:1'), task_index=0)).ready():
            pytest.fail('it listens')


def test_the_parts_of_a_batch_are_the_batch():
    dataset = data.load('tiny')
    with tf.Graph().as_default(), tf.Session() as session:
        whole, *parts = [
            tf.data.make_one_shot_iterator(dataset.train(12, 3, first_step=2, part=part)).get_next()
            for part in [(0, 1), (0, 3), (1, 3), (2, 3)]
        ]
        for _ in range(4):
            whole_images, parts_images = session.run([whole, parts])
            for name in ('images', 'labels'):
                np.testing.assert_array_equal(
                    np.concatenate([part[name] for part in parts_images]), whole_images[name]
                )
                assert {len(part[name]) for part in parts_images} == {4}


# --- their end ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize('code', [0, 143])
def test_a_slow_host_is_not_left_alone_at_the_end(forks, free_address, code):
    """The second host does its last exchange long after the first one has done all its work.

    Either one ends with the exit code of its work.
    """
    hosts = ','.join([free_address(), free_address()])
    running = [forks.start(PARTING, str(own), hosts, str(code)) for own in range(2)]
    said = [''.join(process.communicate()) for process in running]
    assert [process.returncode for process in running] == [code, code], '\n'.join(said)
    assert all('gone' not in each for each in said)


def test_the_loss_of_a_host_is_no_error_once_all_is_done(monkeypatch, capfd):
    codes = []
    monkeypatch.setattr(os, '_exit', codes.append)
    for finished in (None, 0, 143):
        over = watch.Watch(['127.0.0.1:7000', '127.0.0.1:7001'], 0)
        with over:
            if finished is not None:
                over.finish(finished)
            over._leave('host x is gone')
    assert codes == [1, 0, 143] and capfd.readouterr().err.count('host x is gone') == 1


def test_a_host_whose_output_nobody_reads_is_ended_as_well(monkeypatch):
    codes = []
    monkeypatch.setattr(os, '_exit', codes.append)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, 'stdout', closed)
    monkeypatch.setattr(sys, 'stderr', closed)
    watch.Watch(['127.0.0.1:7000', '127.0.0.1:7001'], 0)._leave('host x is gone')
    assert codes == [1]
