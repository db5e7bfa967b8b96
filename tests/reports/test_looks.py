"""Tests of the colours of rules: the same everywhere, and told apart by colour-blind readers."""

import itertools

import numpy as np
import pytest

from reports import looks, sections

import shown

# How colours look to people without one kind of cone, on linear RGB: Machado, Oliveira and
# Fernandes (2009), doi:10.1109/TVCG.2009.113, at full severity.
SEEN = {
    'protanopia': [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    'deuteranopia': [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    'tritanopia': [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
    'all cones': np.eye(3),
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
NOTICED = 10.0  # CIE 1976 difference that is seen at a glance; 2.3 is just noticeable


def linear(colour):
    """Returns '#0072b2' as linear RGB."""
    coded = np.array([int(colour[place : place + 2], 16) / 255.0 for place in (1, 3, 5)])
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Returns linear RGB in CIE L*a*b*."""
    ratios = np.dot(TO_XYZ, np.clip(rgb, 0, 1)) / np.sum(TO_XYZ, axis=1)
    x, y, z = np.where(ratios > 0.008856, np.cbrt(ratios), 7.787 * ratios + 16.0 / 116.0)
    return np.array([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)])


@pytest.mark.parametrize('eyes', SEEN)
def test_the_first_colours_differ_for_all_eyes(eyes):
    seen = [lab(np.dot(SEEN[eyes], linear(each))) for each in looks.COLOURS[: looks.FIRST]]
    nearest = min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2))
    assert nearest > NOTICED


def test_all_colours_are_seen_on_white_and_on_black():
    for colour in looks.COLOURS:
        light = np.dot(TO_XYZ[1], linear(colour))
        assert 1.05 / (light + 0.05) > 1.9 and (light + 0.05) / 0.05 > 2.9


def test_a_rule_looks_the_same_whatever_others_there_are():
    few, many = looks.of(['mirror', 'dfa']), looks.of(['mirror', 'own', 'another', 'dfa', 'pfa'])
    assert few['mirror'] == many['mirror'] and few['dfa'] == many['dfa']
    known = [many[rule] for rule in looks.ORDER]
    assert len(set(known)) == len(looks.ORDER) == len({look.colour for look in known})
    assert many['own'] != many['another']


def test_groups_of_a_rule_are_told_apart_by_the_settings_that_differ():
    some = [shown.made(f'a{steps}', 'mirror', 0, 3, steps=steps) for steps in (30, 60)]
    for run, rate in zip(some, (0.5, 0.25)):
        run.params['learning_rate_params'] = {'learning_rate': rate}
    some.append(shown.made('b', 'dfa', 0, 3))
    (section,) = sections.of(some, some)
    assert [(member.label, member.dash.plotly) for member in section.members] == [
        ('dfa', 'solid'),
        ('mirror, learning_rate 0.25', 'solid'),
        ('mirror, learning_rate 0.5', 'dash'),
    ]
