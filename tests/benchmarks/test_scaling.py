"""The model of the step time, computed by hand, and the measurements of benchmarks.scaling.

The tests also cover what the step time grows with, and the bytes that a step exchanges.
"""

import itertools
import json
import math
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tiers
from benchmarks import scaling
from benchmarks.scaling import Link
from training import runtime

SLOW, FAST = Link(bandwidth=1e9, latency=1e-3), Link(bandwidth=2e10, latency=1e-5)


@pytest.mark.parametrize(
    'members, size, link, seconds',
    [
        (1, 1e8, SLOW, 0.0),
        (2, 8e6, Link(1e9, 0.0), 0.008),  # each sends half, twice
        (4, 1e8, SLOW, 6 * (0.025 + 0.001)),
        (256, 102.4e6, Link(12.5e9, 5e-5), 510 * (32e-6 + 50e-6)),
    ],
)
def test_a_ring_by_hand(members, size, link, seconds):
    assert scaling.ring(members, size, link) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    'count, seconds',
    [
        (1, 0.0),
        (2, 2 * (0.0025 + 1e-5)),
        (8, 14 * (0.000625 + 1e-5)),  # within a host
        (16, 14 * (0.000625 + 1e-5) + 2 * (0.05 + 1e-3)),
        (20, 14 * (0.000625 + 1e-5) + 4 * (0.1 / 3 + 1e-3)),
    ],
)
def test_devices_of_hosts_by_hand(count, seconds):
    assert scaling.all_reduce(count, 8, 1e8, SLOW, FAST) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    'communication, overlap, seconds',
    [
        (0.0, False, 0.3),
        (0.1, False, 0.4),
        (0.1, True, 0.3),
        (0.2, True, 0.3),
        (0.5, False, 0.8),
        (0.5, True, 0.6),
    ],
)
def test_a_step_by_hand(communication, overlap, seconds):
    assert scaling.step_time(0.3, communication, overlap) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    'overlap, size, speed', list(itertools.product((False, True), (1e8, 2e8), scaling.SPEEDS))
)
def test_more_devices_take_longer_and_never_without_end(overlap, size, speed):
    def times(latency, speed=speed, size=size, overlap=overlap):
        link = Link(speed * scaling.GBIT, latency)
        return [
            scaling.step_time(0.2, scaling.all_reduce(count, 1, size, link, FAST), overlap)
            for count in scaling.DEVICES
        ]

    free, late = times(0.0), times(1e-4)
    assert late == sorted(late) and late[0] == 0.2
    assert max(free) < 0.2 + 2 * size / (speed * scaling.GBIT)  # whatever the number of devices
    for slower in (
        late,
        times(0.0, speed=speed / 2),
        times(0.0, size=2 * size),
        times(0.0, overlap=False),
    ):
        assert all(more >= less for more, less in zip(slower, free))
    assert late[-1] > free[-1] or overlap


@pytest.mark.parametrize('overlap', [False, True])
def test_the_bandwidth_that_is_needed_is_just_enough(overlap):
    bandwidth = scaling.needed(0.2, 1e8, 8, 1e-4, overlap)
    assert scaling.step_time(
        0.2, scaling.ring(8, 1e8, Link(bandwidth, 1e-4)), overlap
    ) == pytest.approx(0.21, rel=1e-9)
    assert scaling.needed(0.2, 1e8, 8, 1.0, overlap) == math.inf


def test_a_fit_finds_the_link():
    seconds = {size: scaling.ring(2, size, SLOW) for size in (1e3, 1e8)}
    assert scaling.fit(seconds, 2) == pytest.approx(SLOW, rel=1e-9)


GOLDEN = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'golden', 'variables_resnet18.json'
)


@pytest.mark.slow
@pytest.mark.parametrize(
    'variant, moves_kernels',
    [('feedback', False), ('symmetric', True)]
    + tiers.at_night(('backprop', False), ('kolen_pollack', True)),
)
def test_the_bytes_are_those_of_every_gradient(variant, moves_kernels):
    with open(GOLDEN) as file:
        trained = json.load(file)['float32, trainable']
    numbers = sum(
        np.prod(shape, dtype=int)
        for name, shape in trained.items()
        if moves_kernels or 'backward' not in name
    )
    assert scaling.exchanged(variant, 'resnet18') == 4 * (numbers + 3)  # and three losses


def test_what_is_measured_is_a_mean():
    means = []
    with tf.Graph().as_default():
        for index, value in enumerate(([1.0, -2.0, 3.0], [4.0, 0.0, 3.5])):
            with tf.device(f'/device:CPU:{index}'):
                means.append(runtime.all_sum(tf.constant(value), 1, 2, key=1) / 2)
        options = tf.RunOptions()
        options.experimental.collective_graph_key = 1
        with tf.Session(config=tf.ConfigProto(device_count={'CPU': 2})) as session:
            assert [list(mean) for mean in session.run(means, options=options)] == [
                [2.5, -1.0, 3.25]
            ] * 2


@pytest.mark.slow
def test_two_processes_are_measured():
    found = scaling.over_loopback((4, 4096))
    assert set(found) == {4, 4096} and min(found.values()) > 0
