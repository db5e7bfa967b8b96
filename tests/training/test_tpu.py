"""The graphs for a TPU, and their numbers, compiled by XLA on the CPU of this machine.

No test needs a TPU, and none was ever used.
"""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import data
import kinds
import tiers
import tiny
from alignment.rules import RULES
from config.schema import ConfigError
from training import checkpoints, devices, jobs, loop, overview, runtime
from training.devices.nests import tensors_of
from training.experiment import Experiment

CORES, BATCH = 8, 24
TPU = dict(tpu_name='grpc://10.0.0.2:8470', train_batch_size=BATCH)
RESNET = dict(model='resnet18', layers_list=(), dataset='many', eval_batch_size=13)
SMALL = dict(RESNET, model='small')
BATCH_NORMS = {
    'small': 2,
    'resnet18': 1 + 16 + 4,  # the first convolution, 8 blocks of two, 4 shortcut projections
}


@pytest.fixture(autouse=True, scope='module')
def squares():
    """Registers data sets of images for ResNets and LeNet; two repeat the same 8 images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATASETS, 'many', tiny.dataset('many', image_shape=(9, 9, 3)))
        for name, size in (('squares', 9), ('large', 32)):
            patch.setitem(
                data.DATASETS,
                name,
                tiny.dataset(name, image_shape=(size, size, 3), train_images=8, shuffles=False),
            )
        yield


def built(device=None, validating=True, **settings):
    """Returns the Experiment of tiny settings, on the device that they choose or on a given one."""
    config = tiny.config(**settings)
    return Experiment(config, device or devices.choose(config), validating=validating)


class Counting(devices.OneDevice):
    """Counts which tensors are averaged."""

    def mean(self, replica_fn, batch):
        outcome, updates = super().mean(replica_fn, batch)
        self.shapes = [tensor.shape.as_list() for tensor in tensors_of(outcome)]
        return outcome, updates


def cluster(exp, metadata):
    """Returns the operations of a replicated computation."""
    name = metadata.get_attr('_tpu_replicate')
    return [
        op
        for op in exp.graph.get_operations()
        if '_tpu_replicate' in op.node_def.attr and op.get_attr('_tpu_replicate') == name
    ]


def clusters(exp):
    """Returns the operations of the computations: training, measures, totals of the validation."""
    metadata = [op for op in exp.graph.get_operations() if op.type == 'TPUReplicateMetadata']
    assert [op.get_attr('num_replicas') for op in metadata] == [CORES, 1, CORES]
    return [cluster(exp, op) for op in metadata]


def of_type(operations, *types):
    return [op for op in operations if op.type in types]


@pytest.mark.slow
@pytest.mark.parametrize(
    'rule, sums',
    [(None, 4 + 3), ('symmetric', 6 + 3), ('kolen_pollack', 6 + 3)]
    + tiers.at_night(('feedback', 4 + 3)),
)
def test_every_gradient_and_loss_is_averaged_over_the_cores(rule, sums):
    training, measures, totals = clusters(built(alignment=rule, **TPU))
    assert (
        len(of_type(training, 'CrossReplicaSum')) == sums
    )  # the kernels and biases of two layers, and three losses
    assert (
        of_type(measures, 'CrossReplicaSum') == [] and len(of_type(totals, 'CrossReplicaSum')) == 5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    'settings',
    [{}, dict(alignment_optimizer='adam'), SMALL] + tiers.at_night(RESNET),
    ids=['fc', 'two optimisers', 'small', 'resnet18'],
)
def test_what_is_averaged_is_what_one_device_averages(settings):
    counting = Counting()
    built(counting, False, alignment='information', **dict(TPU, **settings))
    training, _, _ = clusters(built(alignment='information', **dict(TPU, **settings)))
    shapes = [op.outputs[0].shape.as_list() for op in of_type(training, 'CrossReplicaSum')]
    statistics = shapes[: len(shapes) - len(counting.shapes)]
    assert shapes[len(statistics) :] == counting.shapes
    assert len(statistics) == 2 * BATCH_NORMS.get(settings.get('model'), 0)


# Shapes that TensorFlow's graph does not know: those of stacks, whose size XLA determines, and of
# the values that GPUs keep for gradients.
UNKNOWN = [('TensorArrayGatherV3', 0), ('FusedBatchNormV3', 5)]


def is_known(tensor):
    """Returns whether the shape of a tensor is static, or the tensor is one of the exceptions."""
    source = tensor.op.inputs[0] if tensor.op.type == 'ZerosLike' else tensor  # for gradients
    return tensor.shape.is_fully_defined() or (source.op.type, source.value_index) in UNKNOWN


@pytest.mark.slow
@pytest.mark.parametrize(
    'precision, settings',
    [
        ('float32', dict(alignment='information')),
        ('float32', dict(SMALL, alignment='dfa')),
        ('bfloat16', dict(alignment='brsf', minibatch_size=8)),
        ('bfloat16', dict(SMALL, alignment='symmetric')),
    ]
    + tiers.at_night(
        ('bfloat16', dict(alignment='information')),
        ('bfloat16', dict(SMALL, alignment='dfa')),
        ('float32', dict(alignment='brsf', minibatch_size=8)),
        ('float32', dict(SMALL, alignment='symmetric')),
        ('bfloat16', dict(RESNET, alignment='symmetric')),
    ),
)
def test_shapes_are_static_and_types_those_of_a_tpu(precision, settings):
    exp = built(precision=precision, **dict(TPU, **settings))
    for operations in clusters(exp):
        values = [
            tensor for op in operations for tensor in op.outputs if tensor.dtype != tf.resource
        ]
        assert [tensor for tensor in values if not is_known(tensor)] == []
        assert {tensor.dtype for tensor in values} <= {
            tf.float32,
            tf.bfloat16,
            tf.int32,
            tf.int64,
            tf.bool,
            tf.uint64,
        }  # operations that draw
    for operations, computes in zip(clusters(exp), (precision, 'float32', precision)):
        products = of_type(operations, 'MatMul', 'Conv2D')
        assert {op.outputs[0].dtype for op in products if 'gradients' not in op.name} >= {
            tf.as_dtype(computes)
        }
    assert {variable.dtype.base_dtype for variable in exp.variables} == {tf.float32, tf.int64}


@pytest.mark.slow
def test_each_core_gets_its_part_of_a_batch():
    exp = built(**TPU)
    (taken,) = of_type(exp.graph.get_operations(), 'InfeedDequeueTuple')
    assert [(tensor.dtype, tensor.shape.as_list()) for tensor in taken.outputs] == [
        (tf.float32, [3, 4, 5, 1]),
        (tf.int32, [3]),
    ]
    assert taken in clusters(exp)[0]
    handed = of_type(exp.graph.get_operations(), 'InfeedEnqueueTuple')
    assert [op.get_attr('device_ordinal') for op in handed] == list(range(CORES))
    assert all(
        [tensor.shape for tensor in op.inputs] == [tensor.shape for tensor in taken.outputs]
        for op in handed
    )
    assert not any('_tpu_replicate' in op.node_def.attr for op in handed)


def test_all_cores_must_be_done_before_a_call_is():
    exp = built(**TPU)
    ends = set(exp.step.train_op.control_inputs)
    assert len([op for op in ends if '_shard_' in op.name]) == CORES and len(ends) == CORES + 1


# One core, compiled by XLA on the CPU, computes whole batches. The sum over the cores is then a sum
# of equal values.
def equal_cores(patch, batch):
    def replicate(computation, inputs):
        return [runtime.xla_compile(computation, inputs[0])] * len(inputs)

    patch.setattr(runtime, 'tpu_replicate', replicate)
    patch.setattr(runtime, 'tpu_sum', lambda tensor: CORES * tensor)
    patch.setattr(runtime, 'tpu_enqueue', lambda tensors, core: tf.no_op())
    patch.setattr(
        runtime,
        'tpu_dequeue',
        lambda dtypes, shapes: [
            tf.constant(batch[name], dtype) for name, dtype in zip(sorted(batch), dtypes)
        ],
    )


# More settings for these rules on the small fully connected network. Mirror represents the rules
# that draw noise: XLA compiles a generator for each draw, which takes seconds.
MORE = {
    'symmetric': dict(optimizer='adam', alignment_optimizer='momentum', grad_clip=True),
    'information': dict(alpha_schedule_type='linear', alpha_schedule_rate=0.5, constant_lr=False),
    'kolen_pollack': dict(minibatch_size=4),
    'mirror': dict(input_distribution='normal'),
    'frsf': dict(
        optimizer='momentum',
        nesterov=False,
        weight_decay=0.1,
        drop_epochs=(2,),
        freeze=('dense0',),
    ),
}
FC_RULES = kinds.rules(where=lambda rule: rule.name != 'mirror') + ['mirror']
ON_CONVOLUTIONS = ['dfa']  # in the tests of the day


# For the moving variance of a batch norm, the XLA of TensorFlow 1.13.2 divides by the n positions
# of a batch, and its other kernels divide by n - 1.
POSITIONS = {'first': 8 * 5 * 5, 'second': 8 * 3 * 3}
OLD = 0.9**3  # what remains of the first moving variance after three steps


def assert_a_core_trains_like_one_device(monkeypatch, **settings):
    """Checks that three steps in two calls of a core's loop equal three steps on one device."""
    images = data.DATASETS[settings['dataset']]()  # all its batches are the same
    equal_cores(monkeypatch, dict(images=images.images[:8], labels=images.labels[:8]))
    history, scalars = tiny.reference(3, **settings)
    core = devices.TPU(
        'local', None, None, CORES, 8 // settings.get('minibatch_size', 8), steps_per_call=5
    )
    split = built(core, False, **settings)
    others, other_scalars = tiny.calls(split, [2, 1])
    assert others['global_step'] == 3 == len(other_scalars)
    draws = settings['alignment'] == 'brsf' or 'input_distribution' in settings
    if draws:  # XLA draws different numbers, from the step; the first forward pass is equal
        assert other_scalars[0]['model_loss'] == pytest.approx(scalars[0]['model_loss'], rel=1e-5)
        assert all(np.isfinite(value).all() for value in others.values())
        assert len({float(step['model_loss']) for step in other_scalars}) == 3
        again, _ = tiny.calls(split, [1, 2])
        assert tiny.moved(again, others) == set()
        return
    for name, value in history[3].items():
        if name.endswith('moving_variance') and not runtime.IS_TF2:
            value = OLD + (value - OLD) * (1.0 - 1.0 / POSITIONS[name.split('/')[0]])
        np.testing.assert_allclose(
            others[name], value, rtol=0, atol=1e-4 * np.abs(value).max(), err_msg=name
        )
    for step, other in zip(scalars, other_scalars):
        assert {name: float(value) for name, value in other.items()} == pytest.approx(
            {name: float(value) for name, value in step.items()}, rel=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize('rule', FC_RULES)
def test_the_loop_of_a_core_gives_the_numbers_of_one_device(rule, monkeypatch):
    settings = dict(dataset='fc', layers_list=(5,), train_batch_size=8, learning_rate=0.05)
    settings.update(MORE.get(rule, {}), alignment=rule)
    assert_a_core_trains_like_one_device(monkeypatch, **settings)


@pytest.mark.nightly
def test_the_loop_of_a_core_draws_noise_of_updates(monkeypatch):
    settings = dict(dataset='fc', train_batch_size=8, learning_rate=0.05)
    noise = dict(use_noisy_global_opt=True, noisy_opt_distribution='uniform')
    settings.update(MORE['mirror'], alignment='mirror', **noise)
    assert_a_core_trains_like_one_device(monkeypatch, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    'rule',
    ON_CONVOLUTIONS
    + tiers.at_night(None, *[rule for rule in RULES if rule not in ON_CONVOLUTIONS]),
)
def test_the_loop_of_a_core_gives_the_numbers_of_convolutions(rule, monkeypatch):
    small = dict(model='small', layers_list=(), dataset='squares', train_batch_size=8)
    assert_a_core_trains_like_one_device(monkeypatch, alignment=rule, learning_rate=0.05, **small)


@pytest.mark.nightly
@pytest.mark.parametrize('rule', ['dfa', 'pfa', 'usf'])
def test_the_loop_of_a_core_gives_the_numbers_of_lenet(rule, monkeypatch):
    settings = dict(model='lenet', layers_list=(), dataset='large', train_batch_size=8)
    settings.update(dict(undivided_error=True) if rule == 'dfa' else {}, alignment=rule)
    assert_a_core_trains_like_one_device(monkeypatch, learning_rate=0.05, **settings)


def test_the_parts_of_all_cores_are_numbered(monkeypatch):
    cores = []

    def replicate(computation, inputs):
        cores[:] = [computation(*given) for given in inputs]
        return cores

    monkeypatch.setattr(runtime, 'tpu_replicate', replicate)
    monkeypatch.setattr(runtime, 'tpu_sum', lambda tensor: 3 * tensor)
    monkeypatch.setattr(runtime, 'tpu_enqueue', lambda tensors, core: tf.no_op())
    monkeypatch.setattr(runtime, 'tpu_dequeue', lambda dtypes, shapes: [tf.zeros(shapes[0])])
    device = devices.TPU('local', None, None, 3, minibatches=2, steps_per_call=4)

    def step(batch):
        (part,), _ = device.mean(lambda batch, part: ([tf.cast(part, tf.float32)], []), batch)
        return tf.no_op(), dict(part=part)

    with tf.Graph().as_default(), tf.Session() as session:
        call = device.call(step, lambda: dict(images=tf.zeros([12, 5])))
        found = session.run(cores, {call.steps: 4})
    assert [rows.tolist() for (rows,) in found] == [
        [[mean]] * 4 for mean in (0.5, 2.5, 4.5)
    ]  # the parts 0 and 1, 2 and 3, 4 and 5


@pytest.mark.slow
@pytest.mark.parametrize('rule', ['information'] + tiers.at_night('frsf'))
def test_a_validation_split_over_cores_gives_the_numbers_of_one_device(rule, monkeypatch):
    tiny.emulate_cores(monkeypatch)
    found = []
    for device in (devices.OneDevice(), devices.TPU('local', None, None, replicas=2)):
        exp = Experiment(
            tiny.config(alignment=rule, eval_batch_size=5, measure_images=7),
            device,
            training=False,
        )
        with tiny.session(exp) as session:
            found.append(runtime.nest.flatten(exp.validate(session)['topn_val']))
    np.testing.assert_allclose(found[1], found[0], rtol=2e-5)


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(gpu='1'), '--gpu=1 is for GPUs'),
        (dict(xla=True), '--xla has no effect'),
        (dict(precision='float16'), 'bfloat16'),
        (dict(train_batch_size=12), '--train_batch_size=12 is not a multiple of --num_shards=8'),
        (dict(train_batch_size=24, minibatch_size=12), '--minibatch_size=12 is not a multiple'),
    ],
)
def test_what_does_not_go_with_a_tpu_is_refused(settings, words):
    with pytest.raises(ConfigError, match='--tpu_name=grpc.*' + words):
        devices.choose(tiny.config(**dict(TPU, **settings)))


def test_the_settings_reach_the_device(monkeypatch):
    monkeypatch.setattr(runtime, 'tpu_address', lambda *place: pytest.fail(repr(place)))
    device = devices.choose(
        tiny.config(
            tpu_name='mine',
            tpu_zone='z',
            gcp_project='p',
            num_shards=4,
            train_batch_size=16,
            minibatch_size=8,
        )
    )
    assert (device.replicas, device.minibatches, device.steps_per_call, device.data_format) == (
        4,
        2,
        100,
        'NHWC',
    )
    with pytest.raises(pytest.fail.Exception, match="'mine', 'z', 'p'"):
        with device.ready():
            pass
    assert devices.choose(tiny.config(iterations_per_loop=7, **TPU)).steps_per_call == 7
    assert (
        'TPU grpc://10.0.0.2:8470 with 8 cores, images as NHWC'
        in overview.experiment(tiny.experiment(**TPU), devices.choose(tiny.config(**TPU)))[0]
    )


def test_an_address_needs_no_look_up():
    assert [
        runtime.tpu_address(name, None, None) for name in ('grpc://10.0.0.2:8470', 'local')
    ] == ['grpc://10.0.0.2:8470', '']


@pytest.fixture(scope='module')
def machine():
    """Yields the address of another machine, as a session sees it."""
    server = tf.train.Server.create_local_server()
    yield server.target


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, why',
    [
        ('machine', 'has no TPU that TensorFlow can use'),
        ('grpc://127.0.0.1:9', 'no answer within 1 s'),
    ],
)
def test_a_machine_without_a_tpu_is_told(name, why, machine, monkeypatch):
    monkeypatch.setattr(devices.TPU, 'answers_within', 1)
    name = machine if name == 'machine' else name
    with pytest.raises(ConfigError, match=f'--tpu_name={name}: cannot use the TPU .*{why}'):
        with devices.TPU(name, None, None, 8).ready():
            pytest.fail('there is a TPU')


def test_cores_are_started_before_and_stopped_after_a_run(monkeypatch):
    done = []
    monkeypatch.setattr(
        devices.TPU, '_run', lambda self, operation: done.append((self.target, operation))
    )
    device = devices.TPU('grpc://10.0.0.2:8470', None, None, 8)
    with pytest.raises(KeyError):
        with device.ready():
            done.append('run')
            raise KeyError
    assert done == [
        ('grpc://10.0.0.2:8470', runtime.tpu_start),
        'run',
        ('grpc://10.0.0.2:8470', runtime.tpu_stop),
    ]


@pytest.mark.parametrize(
    'operation, kind',
    [(runtime.tpu_start, 'ConfigureDistributedTPU'), (runtime.tpu_stop, 'ShutdownDistributedTPU')],
)
def test_the_operations_that_start_and_stop_a_tpu(operation, kind):
    with tf.Graph().as_default() as graph:
        operation()
        (made,) = of_type(graph.get_operations(), kind)
    assert 'TPU_SYSTEM' in made.device


@pytest.mark.slow
def test_a_checkpoint_of_another_machine_is_written_here(machine, tmp_path, monkeypatch):
    exp = tiny.trainer(alignment='symmetric', optimizer='momentum')
    monkeypatch.setattr(exp.saver, 'save', lambda *_, **__: pytest.fail('the other machine writes'))
    with loop.session(exp, runtime.session_config(), machine) as session:
        session.run(exp.step.initializer)
        exp.run_steps(session, 1)
        values, prefix = tiny.values(session, exp), checkpoints.save(session, exp, str(tmp_path), 1)
    assert sorted(os.listdir(str(tmp_path))) == [
        'checkpoint-1.data-00000-of-00001',
        'checkpoint-1.index',
    ]
    with tiny.session(exp) as session:
        assert checkpoints.restore(session, exp, prefix) == []
        assert tiny.moved(values, tiny.values(session, exp)) == set() and values['global_step'] == 1


@pytest.mark.slow
def test_a_dry_run_needs_no_tpu(monkeypatch, capsys):
    monkeypatch.setattr(devices.TPU, 'answers_within', 1)
    jobs.train(tiny.config(dry_run=True, **TPU))
    told = capsys.readouterr().out
    assert 'TPU grpc://10.0.0.2:8470 with 8 cores' in told
    assert 'time: not measured (--tpu_name=grpc://10.0.0.2:8470: cannot use the TPU' in told
    assert 'at most so far (without that of the TPU)' in told
