"""What a rule sees of a layer: every option against NumPy, stop-gradients, and lazy operations."""

import collections

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import oracle
import samples
from alignment.view import LayerView, ViewOptions
from reference import error

SYMBOLS = ('W', 'B', 'x', 'Wx', 'Bx', 'BWx', 'WBx')
TOLERANCE = 2e-5

TOGETHER = [
    {},
    dict(center_input=True, batch_center_backward_input=True, update_forward=True),
    dict(
        input_distribution='uniform',
        normalize_input=True,
        activation_forward=True,
        use_bias_backward=False,
    ),
    dict(activation_forward=True, center_forward_output=True, batch_center_forward_output=True),
    dict(
        normalize_forward_output=True,
        batch_center_forward_output=True,
        normalize_backward_output=True,
        activation_backward=True,
        use_bias_forward=False,
    ),
]
CASES = [settings for cases in samples.SETTINGS.values() for settings in cases] + TOGETHER


def brief(settings):
    if isinstance(settings, str):
        return settings
    return '+'.join(f'{name}={settings[name]}' for name in sorted(settings)) or 'defaults'


def test_every_option_is_tried():
    assert set(samples.SETTINGS) == set(ViewOptions._fields)
    for name, cases in samples.SETTINGS.items():
        assert cases and all(case[name] != getattr(ViewOptions(), name) for case in cases)


@pytest.mark.parametrize(
    'settings, name',
    [(case, name) for case in CASES for name in ('dense', 'conv', 'strided')]
    + [(case, name) for case in TOGETHER for name in ('linear', 'valid')],
    ids=brief,
)
def test_a_view_shows_what_its_options_say(settings, name):
    options = ViewOptions(**settings)
    drawn = ViewOptions(
        **{key: settings[key] for key in ('input_distribution', 'input_stddev') if key in settings}
    )

    def build():
        record = samples.record(name)
        view = LayerView(record, options, seed=3)
        noise = LayerView(record, drawn, seed=3).x  # the draw before centering
        return {symbol: getattr(view, symbol) for symbol in SYMBOLS}, noise

    got, noise = samples.numbers(build)
    wanted = oracle.see(
        samples.layer(name),
        options,
        noise.astype(np.float64) if options.input_distribution else None,
    )
    for symbol in SYMBOLS:
        assert error(got[symbol], getattr(wanted, symbol)) < TOLERANCE, symbol


def test_a_layer_followed_by_a_non_linearity_of_its_own_shows_it():
    """A layer without an activation shows its bare projection.

    A layer that is followed by batch norm and a ReLU shows its projection after a ReLU.
    """
    record, followed = samples.numbers(
        lambda: [
            LayerView(
                samples.record('valid')._replace(activation=activation),
                ViewOptions(activation_forward=True),
                None,
            ).Wx
            for activation in (None, tf.nn.relu)
        ]
    )
    assert (record < 0).any()
    np.testing.assert_array_equal(followed, np.maximum(record, 0))


# --- noise ----------------------------------------------------------------------------------------

LARGE = (50, 41, 23)  # 47150 draws


def draws(*places, runs=1, **settings):
    """Returns the noise in place of a large input.

    Args:
        *places: (seed, step, part, name of the layer) of each draw.
        runs: How often one session computes all of the draws.
        **settings: ViewOptions.
    """
    with tf.Graph().as_default(), samples.session() as session:
        record = samples.record('dense')._replace(x=tf.fill(LARGE, 7.0))
        found = [
            LayerView(record._replace(name=name), ViewOptions(**settings), seed, step, part).x
            for seed, step, part, name in places
        ]
        assert all(x.shape.as_list() == list(LARGE) for x in found)
        return [array for _ in range(runs) for array in session.run(found)]


PLACE = (5, 0, 0, 'conv0')


@pytest.mark.parametrize('stddev', [1.0, 0.3])
@pytest.mark.parametrize('distribution, kurtosis', [('normal', 3.0), ('uniform', 1.8)])
def test_noise_has_mean_zero_and_the_asked_deviation(distribution, kurtosis, stddev):
    (x,) = draws(PLACE, input_distribution=distribution, input_stddev=stddev)
    z = x.astype(np.float64) / stddev
    assert (
        abs(z.mean()) < 0.02 and abs(z.std() - 1) < 0.015 and abs(np.mean(z**4) - kurtosis) < 0.15
    )
    assert np.abs(z).max() < (6 if distribution == 'normal' else np.sqrt(3) + 1e-6)
    for axis in range(3):  # each image, row and column has its own numbers
        assert abs(np.mean(z * np.roll(z, 1, axis))) < 0.02


@pytest.mark.parametrize('distribution', ['normal', 'uniform'])
def test_noise_depends_on_seed_step_part_and_layer_alone(distribution):
    first, again = draws(PLACE, runs=2, input_distribution=distribution)
    places = [
        PLACE,
        (6, 0, 0, 'conv0'),
        (5, 1, 0, 'conv0'),
        (5, 0, 1, 'conv0'),
        (5, 1, 1, 'conv0'),
        (5, 2**31 - 1, 2**30 - 1, 'conv0'),
        (5, 0, 0, 'conv1'),
        (None, 0, 0, 'conv0'),
    ]
    elsewhere = draws(*places, input_distribution=distribution)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(elsewhere[0], first)
    correlations = np.corrcoef([x.ravel() for x in elsewhere])
    assert np.abs(correlations - np.eye(len(places))).max() < 0.03


@pytest.mark.parametrize(
    'distribution, wanted',
    [  # the same on TensorFlow 1.13.2 and 2.21
        ('normal', [0.9768997, -0.5601392, -2.1971469, -0.7055581]),
        ('uniform', [1.6037396, -1.3672753, -0.6667846, 0.6566011]),
    ],
)
def test_noise_is_the_same_on_both_runtimes(distribution, wanted):
    with tf.Graph().as_default(), samples.session() as session:
        record = samples.record('dense')._replace(name='conv0', x=tf.zeros([5, 3]))
        x = session.run(
            LayerView(
                record,
                ViewOptions(input_distribution=distribution),
                5,
                tf.constant(7, tf.int64),
                tf.constant(2),
            ).x
        )
    np.testing.assert_allclose(x.ravel()[:4], wanted, rtol=1e-5)


def test_both_projections_see_the_same_noise():
    def build():
        record = samples.record('dense')
        view = LayerView(
            record._replace(B=record.W), ViewOptions(input_distribution='normal'), None
        )
        return view.Wx, view.Bx

    np.testing.assert_array_equal(*samples.numbers(build))


# --- stop-gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'settings, name',
    [(case, 'dense') for case in CASES] + [(case, 'strided') for case in TOGETHER],
    ids=brief,
)
def test_a_loss_moves_the_backward_kernel_only(settings, name):
    with tf.Graph().as_default():
        record = samples.record(name)
        view = LayerView(record, ViewOptions(**settings), seed=3)
        loss = tf.add_n([tf.reduce_sum(tf.square(getattr(view, symbol))) for symbol in SYMBOLS])
        leaves = dict(W=record.W, B=record.B, x=record.x, bias=record.bias)
        leaves = {key: leaf for key, leaf in leaves.items() if leaf is not None}
        found = {
            key
            for key, gradient in zip(leaves, tf.gradients(loss, list(leaves.values())))
            if gradient is not None
        }
    assert found == {'B', 'W'} if settings.get('update_forward') else found == {'B'}


@pytest.mark.parametrize(
    'symbol, settings, through',
    [
        ('W', {}, set()),
        ('W', dict(update_forward=True), {'W'}),
        ('B', {}, {'B'}),
        ('x', {}, set()),
        ('Wx', {}, set()),
        ('Wx', dict(update_forward=True), {'W'}),
        ('Bx', {}, {'B'}),
        ('BWx', {}, {'B'}),
        ('WBx', {}, {'B'}),
        ('BWx', dict(update_forward=True), {'B', 'W'}),
        ('WBx', dict(update_forward=True), {'B', 'W'}),
    ],
)
def test_what_each_symbol_moves(symbol, settings, through):
    with tf.Graph().as_default():
        record = samples.record('dense')
        shown = getattr(LayerView(record, ViewOptions(**settings)), symbol)
        leaves = dict(W=record.W, B=record.B, x=record.x, bias=record.bias)
        found = tf.gradients(tf.reduce_sum(tf.square(shown)), list(leaves.values()))
    assert {key for key, gradient in zip(leaves, found) if gradient is not None} == through


# --- laziness -------------------------------------------------------------------------------------

NOISE = dict(input_distribution='normal', center_input=True)


@pytest.mark.parametrize(
    'symbols, settings, products, backward, noise',
    [
        (['W', 'B'], {}, 0, 0, 0),
        (['W', 'B'], NOISE, 0, 0, 0),
        (['x'], {}, 0, 0, 0),
        (['x', 'x'], NOISE, 0, 0, 1),
        (['Wx'], {}, 0, 0, 0),  # the forward pass has computed it
        (['Wx'], dict(center_input=True), 1, 0, 0),
        (['Wx'], dict(update_forward=True), 0, 0, 0),
        (['Wx'], NOISE, 1, 0, 1),
        (['Bx'], {}, 1, 0, 0),
        (['Wx', 'Bx', 'Wx', 'Bx'], NOISE, 2, 0, 1),
        (['BWx'], {}, 0, 1, 0),
        (['WBx', 'Bx'], {}, 1, 1, 0),
        (list(SYMBOLS) * 2, NOISE, 2, 2, 1),
    ],
)
def test_nothing_is_built_that_is_not_asked_for_and_nothing_twice(
    symbols, settings, products, backward, noise
):
    def count(graph):
        types = collections.Counter(operation.type for operation in graph.get_operations())
        return np.array([types['Conv2D'], types['Conv2DBackpropInput'], types['Cos']])

    with tf.Graph().as_default() as graph:
        record = samples.record('conv')
        before = count(graph)
        view = LayerView(record, ViewOptions(**settings))
        for symbol in symbols:
            getattr(view, symbol)
        assert list(count(graph) - before) == [products, backward, noise]
        assert getattr(view, symbols[0]) is getattr(view, symbols[0])
