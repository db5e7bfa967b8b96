"""Tests of the results by class, against oracles in NumPy on the logits of all images."""

import io

import numpy as np
import pytest
from PIL import Image

import tiers
import tiny
from training import answers, devices, metrics, validation
from training.experiment import Experiment
import tensorflow.compat.v1 as tf

MANY = tiny.dataset('manyclasses', classes=101, label_names=[f'n{label}' for label in range(101)])


@pytest.fixture(autouse=True)
def many(monkeypatch):
    monkeypatch.setitem(tiny.data.DATASETS, MANY.name, MANY)


def detailed(exp):
    """Returns the results of a validation with and without details, and the variables."""
    bias = np.linspace(-0.7, 0.7, exp.dataset.classes).astype(np.float32)
    with tiny.session(exp, {'dense_output/bias': bias}) as session:
        plain = validation.validate(session, exp)
        return validation.validate(session, exp, in_detail=True), plain, tiny.values(session, exp)


def expected(exp, variables):
    """Returns (labels, answers, log-odds of the answers, probabilities) by float64 arithmetic."""
    outputs, labels = tiny.logits(variables, exp.dataset.images[:13]), exp.dataset.labels[:13]
    chances = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    best = chances.max(axis=1)
    return labels, outputs.argmax(axis=1), np.log(best / (1 - best)), best


@pytest.mark.parametrize('batch', [5, 13])
def test_classes_confusions_and_mistakes_are_those_of_the_logits(batch):
    exp = tiny.experiment(training=False, dataset='few', eval_batch_size=batch)
    found, plain, variables = detailed(exp)
    labels, best, odds, chances = expected(exp, variables)
    assert {name: found[name] for name in plain} == plain
    assert set(found) - set(plain) == {'per_class', 'confusion', 'mistakes'}
    for label, each in enumerate(found['per_class']):
        own = labels == label
        right = np.mean(best[own] == label) if own.any() else None
        assert each == dict(label=label, name=str(label), images=own.sum(), top1=right)
    matrix = np.array(found['confusion']['matrix'])
    assert matrix.tolist() == [
        [np.sum((labels == label) & (best == answer)) for answer in range(3)] for label in range(3)
    ]
    assert np.trace(matrix) / 13 == pytest.approx(found['top1'])
    wrong = np.flatnonzero(labels != best)
    order = sorted(wrong, key=lambda number: -odds[number])[: answers.MOST_MISTAKES]
    assert [each['number'] for each in found['mistakes']] == order and len(order) > 3
    for each in found['mistakes']:
        number = each['number']
        assert (each['label'], each['answer']) == (labels[number], best[number])
        assert each['probability'] == pytest.approx(chances[number], rel=1e-4)
        image = exp.dataset.images[number, :, :, 0]
        image = 255 * (image - image.min()) / (image.max() - image.min())
        with Image.open(io.BytesIO(each['image'])) as stored:
            assert stored.format == 'PNG'
            np.testing.assert_allclose(np.asarray(stored), image, atol=0.51)


def test_of_many_classes_the_largest_confusions_are_recorded(monkeypatch):
    exp = tiny.experiment(training=False, dataset=MANY.name)
    monkeypatch.setattr(answers, 'MOST_CONFUSIONS', 4)
    found, _, variables = detailed(exp)
    labels, best, _, _ = expected(exp, variables)
    counts = {}
    for label, answer in zip(labels, best):
        if label != answer:
            counts[label, answer] = counts.get((label, answer), 0) + 1
    order = sorted(counts, key=lambda pair: (-counts[pair], pair))[:4]
    assert found['confusion'] == dict(
        largest=[dict(label=a, answer=b, images=counts[a, b]) for a, b in order]
    )
    assert [each['name'] for each in found['per_class']] == MANY.label_names
    assert sum(each['images'] for each in found['per_class']) == 13


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['towers'] + tiers.at_night('tpu'))
def test_they_are_the_same_on_several_devices(kind, monkeypatch):
    settings = dict(dataset='few', alignment='symmetric', eval_batch_size=5)
    one = detailed(Experiment(tiny.config(**settings), devices.OneDevice(), training=False))[0]
    if kind == 'tpu':
        tiny.emulate_cores(monkeypatch)
        device = devices.TPU('local', None, None, replicas=2)
        exp = Experiment(tiny.config(**settings), device, training=False)
    else:
        exp = tiny.experiment(training=False, gpu='1,0', cpu_devices=2, **settings)
    other = detailed(exp)[0]
    assert [each.pop('probability') for each in one['mistakes']] == pytest.approx(
        [each.pop('probability') for each in other['mistakes']], rel=1e-4
    )
    for name in ('per_class', 'confusion', 'mistakes'):
        assert one[name] == other[name]


def test_ties_count_as_right_and_an_image_without_finite_logits_has_no_answer():
    logits = np.array([[2, 2, 1], [3, 1, 3], [0, np.nan, 9], [40, 1, 2], [1, 0, np.inf]], 'f')
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(metrics.answers(tf.constant(logits), tf.constant([1, 1, 2, 2, 0])))
    assert found['answer'].tolist() == [1, 0, -1, 0, -1]
    assert found['sureness'][3] == pytest.approx(40 - np.log(np.exp(1) + np.exp(2)), rel=1e-6)
    collected = answers.Answers(3)
    zeros = np.zeros((1, 2, 2, 1), np.uint8)
    collected.add(
        dict(
            labels=np.array([1, 1, 2, 2, 0]),
            mask=np.array([1, 1, 1, 0, 1], 'f'),
            answers=found['answer'],
            sureness=np.array([-np.inf]),
            places=np.array([3]),
            images=zeros,
        )
    )
    results = collected.results(['a\ud800', 'b' * 300, 'c'])
    assert results['mistakes'] == [] and results['confusion']['matrix'] == [
        [0, 0, 0],
        [1, 1, 0],
        [0, 0, 0],
    ]
    assert [each['images'] for each in results['per_class']] == [1, 2, 1]
    assert [each['top1'] for each in results['per_class']] == [0.0, 0.5, 0.0]
    names = [each['name'] for each in results['per_class']]
    assert names == ['a?', 'b' * answers.LONGEST_NAME, 'c']


@pytest.mark.parametrize(
    'shape, kind, size', [((90, 180, 3), 'JPEG', (64, 32)), ((28, 30, 1), 'PNG', (30, 28))]
)
def test_thumbnails_are_small(shape, kind, size):
    images = np.random.RandomState(0).randint(0, 256, (2,) + shape).astype(np.uint8)
    images[0] = 7  # of one colour
    with tf.Graph().as_default(), tf.Session() as session:
        small = session.run(answers._small(tf.constant(images)))
        level = session.run(answers._small(tf.zeros((1,) + shape)))
    assert small.dtype == np.uint8 and set(small[0].ravel()) == {7} and not level.any()
    with Image.open(io.BytesIO(answers.encoded(small[1]))) as stored:
        assert (stored.format, stored.size) == (kind, size)
    if kind == 'PNG':
        np.testing.assert_array_equal(small, images)
