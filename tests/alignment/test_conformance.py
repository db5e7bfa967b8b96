"""Every rule on every kind of layer: its loss, its gradients, what it sees, and what it trains.

The rules run on whole batches and on parts of batches.
"""

import collections
import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import kinds
import oracle
import samples
from alignment import gradients
from alignment.view import ACTIVATIONS, LayerView, ViewOptions
from alignment.rules import KERNELS, RULES, Rule
from drawn import start
from models.layers import Layers
from reference import error
from training import runtime
from training.devices import OneDevice

IMAGES = (6, 7, 5, 3)
TOLERANCE = 1e-5

# The layer above: a function of the activities x of the convolution below, float32 [6, 4, 3, 5].
KINDS = {
    'dense': lambda layers, x: layers.dense(flat(x), 4, activation='tanh'),
    'dense without bias': lambda layers, x: layers.dense(flat(x), 4),
    'conv': lambda layers, x: layers.conv2d(x, 4, 3, use_bias=True, activation='sigmoid'),
    'conv without bias': lambda layers, x: layers.conv2d(x, 4, 3, followed_by='relu'),
    'stride 2': lambda layers, x: layers.conv2d(x, 4, 3, stride=2, use_bias=True),
    'stride 2 without bias': lambda layers, x: layers.conv2d(x, 4, 1, stride=2, followed_by='relu'),
    'valid': lambda layers, x: layers.conv2d(
        x, 4, 2, padding='VALID', use_bias=True, activation='tanh'
    ),
    'valid without bias': lambda layers, x: layers.conv2d(x, 4, 2, padding='VALID'),
}
if runtime.IS_TF2:  # TensorFlow 1.13.2 has no NCHW convolution on CPUs
    KINDS.update(
        {kind + ' NCHW': KINDS[kind] for kind in ('conv', 'stride 2', 'valid without bias')}
    )
PLACES = [(kind, 1) for kind in KINDS] + [
    ('dense', 3),
    ('stride 2', 3),
]  # (kind, number of parts of the batch)
FULL = [
    ('dense', 1),
    ('stride 2', 1),
]  # the places at which all variants of a rule are tested, not only its defaults

# A rule, and the switches and options that differ from its defaults.
Variant = collections.namedtuple('Variant', ['rule', 'settings'])


def variants():
    """Returns all rules: with defaults, with each switch, with all switches, and with W trained."""
    for name, rule in RULES.items():
        yield Variant(name, {})
        for switch, default in rule.switches.items():
            yield Variant(name, {switch: not default})
        if len(rule.switches) > 1:
            yield Variant(name, {switch: not default for switch, default in rule.switches.items()})
        if rule.sees:
            yield Variant(name, dict(update_forward=True))


def title(variant):
    return '+'.join([variant.rule] + sorted(variant.settings))


VARIANTS = {title(variant): variant for variant in variants()}
CASES = [
    (case, kind, parts)
    for kind, parts in PLACES
    for case in VARIANTS
    if (kind, parts) in FULL or not VARIANTS[case].settings
]
BY_DAY = FULL + [('conv', 1), ('dense', 3)]  # the places at which the fast tests run
AT_NIGHT = {'valid without bias', 'valid without bias NCHW', 'stride 2 NCHW'}


def tier(kind, parts):
    """Returns the mark of a place."""
    if (kind, parts) in BY_DAY:
        return []
    return [pytest.mark.nightly if kind in AT_NIGHT else pytest.mark.slow]


EVERY_CASE = [pytest.param(*case, marks=tier(*case[1:])) for case in CASES]
# Coefficients for these tests. At the default coefficients, terms would cancel.
COEFFICIENTS = dict(alpha=0.3, beta=0.7, gamma=1.1)


def flat(x):
    return tf.reshape(x, [-1, x.shape[1:].num_elements()])


def make(variant, coefficients=COEFFICIENTS, seed=None):
    """Returns the Rule of a variant.

    Args:
        variant: A Variant.
        coefficients: {name: number or tensor}. Names that the rule does not have are ignored.
        seed: The seed of the rule.
    """
    rule = RULES[variant.rule]
    switches = {name: value for name, value in variant.settings.items() if name in rule.switches}
    options = {name: value for name, value in variant.settings.items() if name not in rule.switches}
    known = {name: value for name, value in coefficients.items() if name in rule.coefficients}
    return rule(options=ViewOptions(**options), seed=seed, **dict(known, **switches))


def network(kind, images, rule=None):
    """Returns the records of two layers, 'below' and 'above'."""
    layers = Layers(
        rule or RULES['symmetric'](),
        data_format='NCHW' if kind.endswith('NCHW') else 'NHWC',
        classes=4,
    )
    with tf.variable_scope('below'):
        x = layers.conv2d(layers.arrange(images), 5, 3, stride=2, use_bias=True, activation='tanh')
    with tf.variable_scope('above'):
        KINDS[kind](layers, x)
    if kind == 'dense without bias':
        layers.records[-1] = layers.records[-1]._replace(bias=None)
    return layers.records


def as_seen(record, arrays):
    """Returns the oracle's Layer of a LayerRecord, given the values of its tensors."""
    activation = next(
        (name for name, function in ACTIVATIONS.items() if function is record.activation), None
    )
    W, B, bias, x = [None if array is None else array.astype(np.float64) for array in arrays]
    return oracle.Layer(samples.oracle_of(record.linear), W, B, bias, x, activation)


# losses: {layer: number}. gradients: {variable: array}, the gradients of the sum of the losses.
Result = collections.namedtuple('Result', ['losses', 'gradients'])


@functools.lru_cache(maxsize=None)
def results(kind, parts):
    """Returns ({layer name: oracle.Layer}, {variant: Result}), computed by our code.

    Args:
        kind: A kind of layer.
        parts: The number of parts that the batch is split into.
    """
    with tf.Graph().as_default(), samples.session() as session, tf.variable_scope(
        '', reuse=tf.AUTO_REUSE
    ):
        images = tf.constant(samples.array('images', IMAGES), tf.float32)
        records = network(kind, images)

        def replica(batch, part):
            # {(variant, 'losses' or 'gradients', layer or variable): tensor}
            records, tensors = network(kind, batch['images']), {}
            for case in cases_at(kind, parts):
                losses = make(VARIANTS[case]).losses(records, part=part)
                tensors.update({(case, 'losses', name): loss for name, loss in losses.items()})
                if losses:
                    variables = tf.trainable_variables()
                    found = zip(variables, tf.gradients(tf.add_n(list(losses.values())), variables))
                    tensors.update(
                        {(case, 'gradients', v.op.name): g for v, g in found if g is not None}
                    )
            return tensors, []

        tensors, _ = OneDevice(parts).mean(replica, dict(images=images))
        start(session)
        arrays = session.run(
            [
                [t for t in (r.W, r.B, r.x) + ((r.bias,) if r.bias is not None else ())]
                for r in records
            ]
        )
        layers = {
            r.name: as_seen(r, a[:2] + [a[3] if len(a) > 3 else None, a[2]])
            for r, a in zip(records, arrays)
        }
        found = {case: Result({}, {}) for case in cases_at(kind, parts)}
        for (case, group, name), value in session.run(tensors).items():
            getattr(found[case], group)[name] = value
    return layers, found


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """Computes everything on the CPU."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')


def expected(case, layer):
    """Returns the loss of an oracle.Layer by the formula, in float64."""
    rule = make(VARIANTS[case])
    values = {name: getattr(rule, name) for name in list(rule.coefficients) + list(rule.switches)}
    return oracle.LOSSES[rule.name](oracle.see(layer, rule.options), **values)


def cases_at(kind, parts):
    return [case for case, *place in CASES if place == [kind, parts]]


def with_loss(case):
    return oracle.LOSSES[VARIANTS[case].rule] is not None


# --- the tables are complete ----------------------------------------------------------------------


def test_every_rule_has_its_formula_here():
    assert set(oracle.LOSSES) == set(RULES), 'add the formula of a new rule to oracle.LOSSES'


def test_rules_describe_themselves():
    for name, rule in RULES.items():
        assert rule.name == name and rule.__doc__ and rule.sees <= set(ViewOptions._fields)
        assert not set(rule.coefficients) & set(rule.switches)
        assert bool(rule.sees) == (oracle.LOSSES[name] is not None) == bool(rule.coefficients)
    tied = {name for name, rule in RULES.items() if rule.tie_gradients}
    made = {name for name, rule in RULES.items() if not rule.has_variable}
    assert {'kolen_pollack', 'pfa'} <= tied and {'usf', 'brsf'} <= made
    neither = {'symmetric', 'activation', 'mirror', 'information', 'feedback', 'dfa', 'frsf'}
    assert not neither & (tied | made) and not tied & made


@pytest.mark.parametrize('name', sorted(RULES))
def test_a_rule_refuses_what_it_does_not_know(name):
    with pytest.raises(TypeError, match=f'{name} has no delta, epsilon'):
        RULES[name](delta=1.0, epsilon=2.0)
    rule = RULES[name](**{coefficient: 7.0 for coefficient in RULES[name].coefficients})
    assert all(getattr(rule, coefficient) == 7.0 for coefficient in rule.coefficients)
    assert {c: getattr(RULES[name](), c) for c in rule.coefficients} == RULES[
        name
    ].coefficients  # the defaults of the class are unchanged


# --- losses and gradients -------------------------------------------------------------------------


@pytest.mark.parametrize('case, kind, parts', EVERY_CASE)
def test_the_loss_is_its_formula(case, kind, parts):
    layers, found = results(kind, parts)
    assert set(found[case].losses) == (set(layers) if with_loss(case) else set())
    for name, loss in found[case].losses.items():
        assert loss.dtype == np.float32 and loss.shape == ()
        np.testing.assert_allclose(loss, expected(case, layers[name]), TOLERANCE, err_msg=name)


@pytest.mark.parametrize('case, kind, parts', EVERY_CASE)
def test_the_gradient_is_that_of_finite_differences(case, kind, parts):
    layers, found = results(kind, parts)
    moving = ['B', 'W'] if VARIANTS[case].settings.get('update_forward') else ['B']
    kernels = (
        {
            '{}/{}_kernel'.format(name, {'W': 'forward', 'B': 'backward'}[which]): (layer, which)
            for name, layer in layers.items()
            for which in moving
        }
        if with_loss(case)
        else {}
    )
    assert set(found[case].gradients) == set(kernels)
    for name, (layer, which) in kernels.items():
        kernel, gradient = getattr(layer, which), found[case].gradients[name]
        if which == 'B' and kernel.ndim == 2:
            gradient = gradient.T  # checkpoints store it as [units, in]
        assert gradient.shape == kernel.shape
        for tag in ('one way', 'another'):
            direction = samples.array(tag, kernel.shape)
            slope = oracle.slope(
                lambda K: expected(case, layer._replace(**{which: K})), kernel, direction
            )
            scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
            assert abs(np.vdot(gradient, direction) - slope) < TOLERANCE * scale, name


@pytest.mark.parametrize(
    'kind',
    [pytest.param(kind, marks=tier(kind, 1)) for kind in sorted(KINDS)],
)
def test_a_loss_reaches_nothing_below_its_layer(kind):
    with tf.Graph().as_default():
        images = tf.zeros(IMAGES)
        below, above = network(kind, images)
        others = [images, below.W, below.B, below.bias, below.output, above.x] + (
            [above.bias] if above.bias is not None else []
        )
        for case in filter(with_loss, cases_at(kind, 1)):
            loss = make(VARIANTS[case]).losses([below, above])['above']
            assert tf.gradients(loss, others) == [None] * len(others), case


@pytest.mark.parametrize('kind', ['dense', pytest.param('stride 2', marks=pytest.mark.slow)])
@pytest.mark.parametrize('name', sorted(RULES))
def test_the_task_moves_backward_kernels_only_where_they_are_tied(name, kind):
    with tf.Graph().as_default(), samples.session() as session:
        images = tf.constant(samples.array('images', IMAGES), tf.float32)
        records = network(kind, images, RULES[name]())
        kernels = {v.op.name: v for v in tf.trainable_variables() if 'kernel' in v.op.name}
        fixed = {v.op.name: v for v in tf.global_variables() if v.op.name.endswith('fixed_matrix')}
        found = dict(
            zip(
                kernels,
                tf.gradients(tf.reduce_sum(tf.square(records[-1].output)), list(kernels.values())),
            )
        )
        start(session)
        found = {
            name: None if gradient is None else session.run(gradient)
            for name, gradient in found.items()
        }
        fixed = session.run(fixed)
    for layer in ('below', 'above'):
        forward, backward = found[layer + '/forward_kernel'], layer + '/backward_kernel'
        if RULES[name].is_direct and layer == 'below':  # no error comes through the layer above
            assert forward is None
            continue
        assert np.any(forward) and (backward in found) == RULES[name].has_variable
        if RULES[name].tie_gradients:
            P = fixed.get(layer + '/fixed_matrix')
            tied = forward if P is None else np.einsum('...u,mu->...m', forward, P)
            tied = tied.T if forward.ndim == 2 else tied
            assert (
                np.array_equal(found[backward], tied)
                if P is None
                else error(found[backward], tied) < TOLERANCE
            )
        else:
            assert found.get(backward) is None


# --- coefficients, switches and options -----------------------------------------------------------


def loss_of(sample, rule):
    """Returns the loss of a sample's layer, and its gradients with respect to B and W.

    A gradient is 0 if there is none.
    """
    record = samples.record(sample)
    loss = rule.losses([record])[sample]
    found = tf.gradients(loss, [record.B, record.W])
    return [loss] + [tf.zeros(()) if gradient is None else gradient for gradient in found]


@pytest.mark.parametrize('case', sorted(case for case in VARIANTS if with_loss(case)))
def test_a_loss_is_linear_in_its_coefficients(case):
    coefficients = sorted(RULES[VARIANTS[case].rule].coefficients)
    with tf.Graph().as_default(), samples.session() as session:
        given = {name: tf.placeholder(tf.float32, ()) for name in coefficients}
        loss = make(VARIANTS[case], given).losses([samples.record('conv')])['conv']

        def at(**values):
            return session.run(loss, {given[name]: values.get(name, 0.0) for name in coefficients})

        terms = {name: at(**{name: 1.0}) for name in coefficients}
        assert at() == 0 and all(abs(term) > 1e-2 for term in terms.values())
        for values in (
            dict(alpha=2.0),
            dict(alpha=0.5, beta=-3.0),
            dict(alpha=-1.5, beta=0.25, gamma=4.0),
        ):
            values = {name: value for name, value in values.items() if name in coefficients}
            np.testing.assert_allclose(
                at(**values), sum(value * terms[name] for name, value in values.items()), 1e-4
            )


@pytest.mark.parametrize('sample', ['dense', 'conv'])
@pytest.mark.parametrize(
    'name, switch',
    [(name, switch) for name, rule in RULES.items() if rule.sees for switch in rule.switches],
)
def test_each_switch_changes_the_loss(name, switch, sample):
    default = RULES[name].switches[switch]
    off, on = samples.numbers(
        lambda: [
            loss_of(sample, make(Variant(name, {switch: value})))
            for value in (default, not default)
        ]
    )
    unset = samples.numbers(lambda: loss_of(sample, make(Variant(name, {}))))
    assert error(on[0], off[0]) > 1e-2 and unset[0] == off[0]


@pytest.mark.parametrize(
    'name',
    [
        name if name in kinds.REPRESENTATIVES else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(RULES)
        if RULES[name].sees
    ],
)
def test_a_rule_sees_the_options_that_it_says(name):
    pairs = [
        (option, case, {key: value for key, value in case.items() if key != option})
        for option in ViewOptions._fields
        for case in samples.SETTINGS[option]
    ]
    settings = {repr(case): case for pair in pairs for case in pair[1:]}
    found = samples.numbers(
        lambda: {
            key: loss_of('dense', make(Variant(name, case), seed=5))
            for key, case in settings.items()
        }
    )
    for option, *cases in pairs:
        differences = [
            error(*numbers) if np.shape(numbers[0]) == np.shape(numbers[1]) else 1.0
            for numbers in zip(*[found[repr(case)] for case in cases])
        ]
        # Either rounding, if the option computes the same numbers in another way, or a change.
        assert all(difference < 1e-6 or difference > 1e-4 for difference in differences)
        assert any(difference > 1e-4 for difference in differences) == (
            option in RULES[name].sees
        ), option


def test_a_rule_without_a_loss_has_none_whatever_it_is_shown():
    rules = [name for name in RULES if oracle.LOSSES[name] is None]
    assert rules
    with tf.Graph().as_default():
        for name in rules:
            assert (
                make(Variant(name, dict(update_forward=True))).losses([samples.record('conv')])
                == {}
            )


@pytest.mark.parametrize(
    'name', sorted(name for name in RULES if RULES[name].sees and RULES[name].sees <= KERNELS)
)
def test_a_rule_over_kernels_builds_no_activity(name):
    with tf.Graph().as_default() as graph:
        record = samples.record('conv')
        before = {operation.name for operation in graph.get_operations()}
        rule = make(Variant(name, {}))
        assert rule.loss(LayerView(record, ViewOptions(input_distribution='normal'))) is not None
        types = {
            operation.type for operation in graph.get_operations() if operation.name not in before
        }
    assert types <= {'L2Loss', 'Mul', 'Sum', 'Const', 'Neg', 'Sub', 'AddV2', 'Add', 'StopGradient'}


# The operations of a rule in addition to the layer's forward pass: (convolutions, transposed
# convolutions, kernel gradients).
WORK = {
    'symmetric': (0, 0, 0),
    'kolen_pollack': (0, 0, 0),
    'feedback': (0, 0, 0),
    'activation': (1, 0, 1),
    'mirror': (0, 0, 1),
    'mirror+input_distribution': (1, 0, 1),
    'information': (0, 1, 1),
    'information+reconstruction_amp': (0, 1, 1),
    'information+input_distribution': (1, 1, 1),
    # These have no closed form.
    'information+reconstruction_reversal': (2, 1, 1),
    'information+use_sparse': (1, 1, 2),
    'activation+update_forward': (1, 0, 1),
}


@pytest.mark.parametrize('scheduled', [False, True])
@pytest.mark.parametrize('name', sorted(WORK))
def test_a_rule_takes_the_products_of_its_closed_form(name, scheduled):
    rule, _, option = name.partition('+')
    case = Variant(
        rule, {option: 'normal' if option == 'input_distribution' else True} if option else {}
    )
    with tf.Graph().as_default() as graph:
        given = RULES[rule].coefficients
        coefficients = (
            {key: tf.constant(value) for key, value in given.items()} if scheduled else given
        )
        record = samples.record('conv')
        losses = list(make(case, coefficients, seed=3).losses([record]).values())
        fetched = [
            tensor.op.name
            for tensor in [record.y] + losses + (tf.gradients(losses, [record.B]) if losses else [])
        ]
        types = [
            node.op for node in tf.graph_util.extract_sub_graph(graph.as_graph_def(), fetched).node
        ]
    work = [types.count(kind) for kind in ('Conv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter')]
    assert tuple(work) == tuple(np.add(WORK[name], (1, 0, 0)))  # one is the forward pass


def settings_of_every_kind():
    """Returns every option alone and in pairs with those that interact with it, and every switch.

    The values are from samples.SETTINGS.
    """
    for name, rule in RULES.items():
        if rule.sees:
            seen = [
                case
                for option in ViewOptions._fields
                if option in rule.sees
                for case in samples.SETTINGS[option]
            ]
            yield from ((name, case) for case in [{}] + seen)
            yield from ((name, {switch: not default}) for switch, default in rule.switches.items())


EVERY_KIND = list(settings_of_every_kind())
AS_IT_IS = [(name, case) for name, case in EVERY_KIND if not case]
# Samples on which all options are tested by day, and their marks. All others are tested at night.
THOROUGH = dict(dense=[], strided=[pytest.mark.slow])


def closed_forms():
    """Returns parameters for pytest: (sample, coefficients, settings)."""
    twice = [dict(alpha=0.5, beta=1.0, gamma=0.25), dict(alpha=0.5, beta=0.25, gamma=0.125)]
    for sample in samples.SAMPLES:
        marks = THOROUGH.get(sample, [pytest.mark.nightly])
        if marks:
            yield pytest.param(sample, COEFFICIENTS, AS_IT_IS, id=f'{sample}-as it is')
        yield pytest.param(
            sample, COEFFICIENTS, EVERY_KIND, id=f'{sample}-every option', marks=marks
        )
        for name, coefficients in zip(('beta', 'alpha'), twice):
            yield pytest.param(
                sample,
                coefficients,
                AS_IT_IS,
                id=f'{sample}-{name} is twice the other',
                marks=marks,
            )


@pytest.mark.parametrize('sample, coefficients, settings', list(closed_forms()))
def test_a_closed_form_is_what_automatic_differentiation_gives(sample, coefficients, settings):
    def both():
        found, record = {}, samples.record(sample)
        for name, case in settings:
            for closed in (True, False):
                rule = make(Variant(name, case), coefficients, seed=7)
                loss = rule.losses([record], closed)[sample]
                if closed and rule.automatic:  # these options have no closed form
                    break
                slopes = [
                    tf.zeros(()) if g is None else g
                    for g in tf.gradients(loss, [record.B, record.W])
                ]
                found[name, repr(sorted(case.items())), closed] = [loss] + slopes
        return found

    found = samples.numbers(both)
    assert {name for name, _, _ in found} == {
        name for name, rule in RULES.items() if rule.closed_form != Rule.closed_form
    }
    for name, case, _ in sorted(found):
        (loss, *slopes), (other_loss, *other_slopes) = (
            found[name, case, True],
            found[name, case, False],
        )
        errors = [error(a, b) for a, b in zip(slopes, other_slopes)]
        assert np.max(errors) < TOLERANCE, (name, case)  # NaN if an error is NaN
        terms = abs(
            np.vdot(other_slopes[0], samples.layer(sample).B)
        )  # some losses are small differences of these numbers
        assert abs(loss - other_loss) < TOLERANCE * max(abs(other_loss), terms), (name, case)


# --- what descending a loss does ------------------------------------------------------------------


def descend(sample, rule, rate, steps, task=None):
    """Returns the angle between B and W, in degrees, before and after gradient descent.

    Variables without a gradient stay fixed.
    """
    with tf.Graph().as_default(), samples.session() as session:
        record = samples.record(sample)
        rule.step = tf.placeholder(tf.int64, [])
        loss = rule.losses([record]).get(sample, tf.constant(0.0))
        total = loss + task(record) if task else loss
        moved = [
            kernel - rate * gradient if gradient is not None else kernel
            for kernel, gradient in zip(
                (record.W, record.B), tf.gradients(total, [record.W, record.B])
            )
        ]
        kernels = [samples.layer(sample).W, samples.layer(sample).B]
        first = oracle.angle(*kernels)
        for step in range(steps):
            kernels = session.run(
                moved, dict(zip((record.W, record.B, rule.step), kernels + [step]))
            )
        return first, oracle.angle(*kernels)


@pytest.mark.parametrize(
    'sample',
    ['dense', 'strided']
    + [pytest.param(name, marks=pytest.mark.slow) for name in ('linear', 'conv', 'valid')],
)
@pytest.mark.parametrize(
    'name, rate, steps, settings',
    [
        ('symmetric', 0.1, 30, {}),
        ('activation', 0.004, 150, {}),
        ('mirror', 0.02, 150, dict(input_distribution='normal')),
    ],
)
def test_descending_a_loss_turns_the_backward_kernel_to_the_forward_kernel(
    name, rate, steps, settings, sample
):
    rule = make(Variant(name, settings), dict(alpha=1.0, beta=2.0), seed=3)
    first, last = descend(sample, rule, rate, steps)
    assert first > 60 and last < 0.7 * first


@pytest.mark.parametrize('tied', [True, False])
def test_tied_gradients_and_decay_turn_the_kernels_to_each_other(tied):
    rule = make(Variant('kolen_pollack', dict(update_forward=True)), dict(alpha=1.0))

    def task(record):
        y = gradients.aligned(record.linear, record.x, record.W, record.B, tied)
        return tf.reduce_sum(tf.square(y - 5.0))

    first, last = descend('dense', rule, 0.02, 60, task)
    assert first > 60 and (last < 10 if tied else last > 30)


def test_feedback_leaves_the_backward_kernel_where_it_is():
    first, last = descend(
        'conv', RULES['feedback'](), 0.1, 5, task=lambda record: tf.reduce_sum(tf.square(record.y))
    )
    assert first > 60 and last > 60
