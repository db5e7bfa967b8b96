"""Every hyperparameter once: its flag, type, default, unit and help. The flags and the Config are
generated from this table.

To add a hyperparameter, add a row; its flag, its place in the params dictionary and in every record
follow.
"""

import collections
import dataclasses
import enum
import hashlib
import json
import math
import reprlib
import sys
import typing

from bson import json_util
from bson.errors import BSONError

LARGEST_INT = 2**63 - 1  # what a record can hold
MANY_EPOCHS = 1e12  # as steps they still are such a number
EXECUTING = (
    '$where',
    '$function',
    '$accumulator',
)  # operators of a MongoDB query that run JavaScript
shown = reprlib.repr  # a value in a message: short, however deep or long it is


class ConfigError(ValueError):
    """A setting that cannot be; the message says which, why and what to do."""


# kind: str, int, float, bool or list (comma-separated text on the command line)
# choices: the name of a registry of legal values (see define_flags), or a tuple of them
# scope: what the setting decides, a Scope.
# at_least, above, at_most: bounds of a number. always: counts even when --load_params_file has
# fixed the rest.
# needs: the settings without any of which this one has no effect; '!name' is one that must be off.
Row = collections.namedtuple(
    'Row',
    [
        'name',
        'kind',
        'default',
        'scope',
        'help',
        'choices',
        'at_least',
        'above',
        'at_most',
        'always',
        'needs',
        'group',
    ],
)


class Scope(enum.Enum):
    """What a setting decides.

    MEANING: what the network computes and sees, so that a checkpoint is wrong with another value.
    TRAINING: how the network is trained, when it is validated and how it is measured.
    PLACE: where records, checkpoints and images are.
    CALL: what one call of a command does, and on which devices; a settings file never holds it.
    """

    MEANING = 'meaning'
    TRAINING = 'training'
    PLACE = 'place'
    CALL = 'call'


MEANING, TRAINING, PLACE, CALL = Scope


def _row(
    name,
    kind,
    default,
    scope,
    help,
    choices=None,
    at_least=None,
    above=None,
    at_most=None,
    always=False,
    needs=(),
):
    return Row(
        name,
        kind,
        default,
        scope,
        help,
        choices,
        at_least,
        above,
        at_most,
        always or scope in (PLACE, CALL),
        needs,
        group=None,
    )


# fmt: off
def _coefficient(name):
    """The six rows of one coefficient of an alignment loss."""
    scheduled = [name + '_schedule_type']
    return [
        _row(name, float, None, TRAINING,
             f"weight {name} in the alignment loss; default: the rule's own"),
        _row(name + '_start', float, 0.0, TRAINING,
             f'fraction of training (0 to 1) before which {name} is 0', at_least=0.0),
        _row(name + '_stop', float, 1.0, TRAINING,
             f'fraction of training (0 to 1) after which {name} is 0', at_least=0.0),
        _row(name + '_cycle', float, None, TRAINING,
             f'period in epochs of a triangular wave that the schedule of {name} runs over; '
             'default: the epochs since its start', above=0.0, needs=scheduled),
        _row(name + '_schedule_rate', float, 0.0, TRAINING,
             f'growth (or, negative, decay) of {name} an epoch, for its schedule_type',
             needs=scheduled),
        _row(name + '_schedule_type', str, None, TRAINING,
             f'how {name} changes: linear (value + rate * epochs), exponential (value * exp(rate * '
             f'epochs)) or cyclic (linear over the wave of {name}_cycle); default: it stays',
             choices='schedule'),
    ]


def _learning_rate(prefix, of):
    """The rows of one learning-rate schedule."""
    needs = ['alignment_optimizer'] if prefix else ()
    changing = ['!' + prefix + 'constant_lr', prefix + 'manual_lr']
    return [
        _row(prefix + 'learning_rate', float, 0.001, TRAINING,
             f'learning rate of the {of}; for --base_batch_size images a step when '
             f'--{prefix}rescale_lr', at_least=0.0, needs=needs),
        _row(prefix + 'rescale_lr', bool, False, TRAINING,
             f'multiply the learning rate of the {of} by train_batch_size / base_batch_size',
             needs=needs),
        _row(prefix + 'constant_lr', bool, True, TRAINING,
             f'keep the learning rate of the {of}; otherwise it warms up, then drops tenfold at '
             'epochs 30, 60 and 80', needs=needs),
        _row(prefix + 'warmup_epochs', float, 5.0, TRAINING,
             f'epochs over which the learning rate of the {of} rises from 0 (with '
             f'--no{prefix}constant_lr or --{prefix}manual_lr)', at_least=0.0, needs=changing),
        _row(prefix + 'manual_lr', bool, False, TRAINING,
             f'drop the learning rate of the {of} by hand, with --{prefix}drop and '
             f'--{prefix}boundary_step', needs=needs),
    ]


def _noise(prefix, of):
    needs = ['use_noisy_' + prefix] if prefix != 'opt' else ['use_noisy_global_opt', 'use_noisy_alignment_opt']
    return [
        _row(f'noisy_{prefix}_distribution', str, None, TRAINING,
             f'distribution of the noise added to {of}', choices='distribution', needs=needs),
        _row(f'noisy_{prefix}_variance', float, 1.0, TRAINING,
             f'variance of the noise added to {of}, before it is multiplied by the learning rate',
             at_least=0.0, needs=needs),
    ]


# The groups are those of a tfutils params dictionary; a row belongs to the one it stands in.
GROUPS = {
    'save_params': [
        _row('host', str, 'localhost', PLACE, 'where MongoDB answers'),
        _row('port', int, 29029, PLACE,
             'port where MongoDB answers; on localhost a private server is started if none does',
             at_least=1),
        _row('dbname', str, 'neur-al', PLACE, 'database that the records go to'),
        _row('exp_id_suffix', str, '', PLACE,
             'what follows the name of the rule in the exp_id of the records'),
        _row('cache_dir', str, None, PLACE,
             'folder for local checkpoints and files on their way to MongoDB; default: '
             '~/.tfutils. Of a gs:// bucket: for copies of the checkpoints, and the rest is in '
             '~/.tfutils'),
        _row('checkpoint_max', int, 5, PLACE, 'how many local checkpoints to keep', at_least=1),
        _row('epochs_per_checkpoint', float, 2.0, TRAINING,
             'epochs between two validations, each with a checkpoint in the database',
             above=0.0, at_most=MANY_EPOCHS),
        _row('epochs_per_recent_checkpoint', float, None, TRAINING,
             'epochs between two checkpoints of which only the newest 6 are kept, in a database '
             'of their own; default: none beside those of --epochs_per_checkpoint',
             above=0.0, at_most=MANY_EPOCHS),
        _row('save_to_gfs', list, (), PLACE,
             'results of a validation, by name (comma list, for example weight_angles), that go '
             'into GridFS instead of the record'),
        _row('tensorboard', bool, False, PLACE,
             'write losses, learning rates, top-1, angles, coefficients and images/s for '
             'TensorBoard, in the folder of the local checkpoints'),
        _row('dry_run', bool, False, CALL,
             'build everything, print the overview and stop: nothing is trained or recorded'),
        _row('skip_check', bool, True, CALL,
             'start although the source tree has uncommitted changes'),
    ],
    'load_params': [
        _row('do_restore', bool, False, CALL,
             'continue this exp_id from its newest checkpoint (or --load_step), if it has one, '
             'with the model, rule and images of its record'),
        _row('load_step', int, None, CALL,
             'step of the checkpoint to restore; default: the newest', at_least=0),
        _row('load_query', str, None, CALL,
             'what else the record to restore must match, a MongoDB query in JSON, for example '
             '{"validation_results.topn_val.top1": {"$gt": 0.7}}; the newest that does is restored'),
        _row('load_db', bool, False, CALL,
             'start from a checkpoint of another experiment in MongoDB, named by the load_* flags'),
        _row('load_port', int, None, CALL,
             'port of the MongoDB to restore from; default: --port', at_least=1),
        _row('load_dbname', str, None, CALL, 'database to restore from; default: --dbname'),
        _row('load_collname', str, None, CALL, "collection to restore from; default: this model's"),
        _row('load_exp_id', str, None, CALL, "exp_id to restore from; default: this experiment's"),
        _row('load_checkpoint', str, None, CALL,
             'restore this checkpoint: the path of its files without .index'),
        _row('reset_step', bool, False, CALL,
             'start a training from --load_db or --load_checkpoint at step 0, with new optimiser '
             'slots (fine-tuning)', needs=['load_db', 'load_checkpoint']),
        _row('override', list, (), CALL,
             'settings (comma list of names) whose flags count although --load_params_file, or '
             'the record that is restored, has another value'),
        _row('val_exp_id', str, None, CALL,
             'test.py: the exp_id under which the validation is recorded'),
    ],
    'model_params': [
        _row('model', str, 'fc', MEANING, 'the network', choices='model', always=True),
        _row('use_resnet_v2', bool, False, MEANING,
             'the pre-activation form of ResNets, with inception preprocessing', always=True),
        _row('image_size', int, None, MEANING,
             'height and width of the images in pixels; default: 224, or 299 with '
             '--use_resnet_v2; 28 for mnist, 32 for cifar10 and cifar100', at_least=1, always=True),
        _row('tf_layers', bool, False, MEANING,
             'plain TensorFlow layers without backward kernels, to check backpropagation against'),
        _row('layers_list', list, (), MEANING,
             'hidden units of fc, layer by layer (comma list, for example 32,16)'),
        _row('activation', str, 'sigmoid', MEANING,
             "non-linearity of fc's hidden layers", choices='activation'),
        _row('regularize_weights_via_model', bool, True, TRAINING,
             'add the L2 loss of the forward kernels to the task loss'),
        _row('bn_trainable', bool, True, TRAINING, 'train gamma and beta of the batch norms'),
        _row('alignment', str, None, MEANING,
             'the alignment rule; none is backpropagation', choices='alignment'),
    ] + _coefficient('alpha') + _coefficient('beta') + _coefficient('gamma') + [
        _row('reconstruction_reversal', bool, False, MEANING,
             'information: reconstruct the input as W(Bx), not B(Wx)'),
        _row('reconstruction_amp', bool, False, MEANING,
             'information: compare the input with its reconstruction, not Wx with Bx'),
        _row('use_sparse', bool, False, MEANING,
             'information: penalise the projections |Wx|^2 + |Bx|^2, not the kernels'),
        _row('expansion', int, 10, MEANING,
             "pfa: neurons that a layer's error passes on its way back, over the layer's units",
             at_least=1),
        _row('update_forward', bool, False, MEANING,
             'let the alignment loss move the forward kernels, too'),
        _row('input_distribution', str, None, MEANING,
             "show the rule noise instead of the layer's input", choices='noise'),
        _row('input_stddev', float, 1.0, MEANING,
             'standard deviation of that noise', above=0.0, needs=['input_distribution']),
        _row('use_bias_forward', bool, True, MEANING,
             'add the bias to the forward projection Wx that the rule sees'),
        _row('use_bias_backward', bool, True, MEANING,
             'add the bias to the backward projection Bx that the rule sees'),
        _row('activation_fn_override', str, None, MEANING,
             "the non-linearity of --activation_forward and --activation_backward; default: the "
             "layer's own",
             choices='activation', needs=['activation_forward', 'activation_backward']),
        _row('activation_forward', bool, False, MEANING, 'apply the non-linearity to Wx'),
        _row('activation_backward', bool, False, MEANING, 'apply the non-linearity to Bx'),
        _row('batch_center_backward_input', bool, False, MEANING,
             'subtract the mean over the batch from the input that B projects'),
        _row('center_input', bool, False, MEANING, 'subtract from each input its own mean'),
        _row('normalize_input', bool, False, MEANING,
             'center each input, then divide it by its norm'),
        _row('batch_center_forward_output', bool, False, MEANING,
             'subtract the mean over the batch from Wx and B(Wx)'),
        _row('center_forward_output', bool, False, MEANING,
             'subtract its own mean from each Wx and B(Wx)'),
        _row('normalize_forward_output', bool, False, MEANING,
             'center each Wx and B(Wx), then divide it by its norm'),
        _row('center_backward_output', bool, False, MEANING,
             'subtract its own mean from each Bx and W(Bx)'),
        _row('normalize_backward_output', bool, False, MEANING,
             'center each Bx and W(Bx), then divide it by its norm'),
        _row('gpu', str, '0', CALL,
             'index of the GPU to use, or several (comma list) over which each batch is split '
             'evenly; counted within CUDA_VISIBLE_DEVICES where that is set; without a GPU the '
             'CPU is used'),
        _row('cpu_devices', int, None, CALL,
             'for tests and teaching: split the CPU into so many devices, which --gpu then names',
             at_least=1),
        _row('sync_batch_norm', bool, False, TRAINING,
             'normalise by the statistics of all devices\' parts of a batch, not of each its own',
             always=True),
        _row('worker_hosts', list, (), CALL,
             'several machines that train together, host:port of each (comma list); the first one '
             'validates, saves and records; default: those of the environment variable TF_CONFIG'),
        _row('task_index', int, None, CALL,
             'which of --worker_hosts this process is, from 0', at_least=0, needs=['worker_hosts']),
        _row('tpu_name', str, None, CALL,
             'Cloud TPU to run on (v2-8 or v3-8): its name, its address (grpc://...), or local'),
        _row('tpu_zone', str, None, CALL,
             "zone of the Cloud TPU; default: this machine's", needs=['tpu_name']),
        _row('gcp_project', str, None, CALL,
             "Google Cloud project of the TPU; default: this machine's", needs=['tpu_name']),
        _row('num_shards', int, 8, CALL, 'TPU cores', at_least=1, at_most=8, needs=['tpu_name']),
        _row('iterations_per_loop', int, None, CALL,
             'the most steps in one call of the device, between two of which nothing is recorded, '
             'validated or saved; default: 1, or 100 on a TPU', at_least=1),
        _row('precision', str, 'float32', MEANING,
             'what convolutions and matrix products compute in; variables, statistics of batch '
             'norm, alignment losses and angles are float32 all the same',
             choices=('float32', 'bfloat16', 'float16'), always=True),
        _row('xla', bool, False, TRAINING,
             'compile each step by XLA; on CPUs it is slower', always=True),
    ],
    'train_params': [
        _row('data_dir', str, None, PLACE,
             'folder (or gs:// bucket) of the TFRecords, or of the MNIST files'),
        _row('dataset', str, 'mnist', MEANING, 'the images', choices='dataset', always=True),
        _row('preprocessing', str, None, MEANING,
             'imagenet: resnet (crop, mirror), inception (crop, mirror, colour) or plain (resize '
             'only); default: inception with --use_resnet_v2, else resnet',
             choices='preprocessing'),
        _row('skip_bad_records', int, 0, TRAINING,
             'how many images that cannot be used (damaged, mislabelled) a run may skip, in its '
             'training and in each validation, before it stops; in a batch another image takes '
             'their place', at_least=0, always=True),
        _row('train_epochs', float, 90.0, TRAINING,
             'length of the training in epochs', at_least=0.0, at_most=MANY_EPOCHS),
        _row('train_batch_size', int, 256, TRAINING,
             'images a training step', at_least=1, always=True),
        _row('minibatch_size', int, None, TRAINING,
             'images at a time, over all devices: gradients of the parts of a batch are averaged '
             'before the update; default: the whole batch', at_least=1),
        _row('validate_first', bool, True, TRAINING, 'validate before the first step'),
        _row('seed', int, 0, TRAINING,
             'of the initial kernels, the order of the images, their distortions and all noise',
             at_least=0, always=True),
    ],
    'loss_params': [
        _row('loss_rate', float, 1.0, TRAINING, 'weight of the task loss (cross-entropy and L2)'),
        _row('alignment_rate', float, 1.0, TRAINING, 'weight of the alignment loss'),
        _row('delay_epochs', float, None, TRAINING,
             'epochs for which the task loss is off at the start', above=0.0, at_most=MANY_EPOCHS),
        _row('alternate_step_freq', int, None, TRAINING,
             'alternate one alignment step with so many task steps', at_least=1),
        _row('constant_rate', bool, True, TRAINING,
             'keep both weights; otherwise they drop tenfold at epochs 30, 60 and 80'),
    ],
    'learning_rate_params': _learning_rate('', 'task loss') + _learning_rate('alignment_', 'alignment loss') + [
        _row('base_batch_size', int, 256, TRAINING,
             'images a step that the learning rates are meant for',
             at_least=1, needs=['rescale_lr', 'alignment_rescale_lr']),
        _row('drop', int, 0, TRAINING,
             'with --manual_lr: how many tenfold drops have been made (0: warm up, then stay)',
             at_least=0, needs=['manual_lr', 'alignment_manual_lr']),
        _row('alignment_drop', int, None, TRAINING,
             'the same for the alignment loss; default: --drop',
             at_least=0, needs=['alignment_manual_lr']),
        _row('boundary_step', int, None, TRAINING,
             'with --manual_lr: the step of the last of those drops',
             at_least=0, needs=['manual_lr', 'alignment_manual_lr']),
        _row('alignment_boundary_step', int, None, TRAINING,
             'the same for the alignment loss; default: --boundary_step',
             at_least=0, needs=['alignment_manual_lr']),
    ],
    'optimizer_params': [
        _row('optimizer', str, 'gd', TRAINING,
             'optimiser of the task loss, and of the alignment loss unless it has its own',
             choices='optimizer'),
        _row('alignment_optimizer', str, None, TRAINING,
             'a second optimiser, for the alignment loss alone', choices='optimizer'),
        _row('grad_clip', bool, False, TRAINING, 'clip gradients'),
        _row('grad_clipping_value', float, 1.0, TRAINING,
             'largest norm, or largest absolute value, of the gradients',
             above=0.0, needs=['grad_clip']),
        _row('grad_clipping_method', str, 'norm', TRAINING,
             'what is bounded: the norm of all gradients together, or each value in them',
             choices='clipping', needs=['grad_clip']),
        _row('use_noisy_global_opt', bool, False, TRAINING,
             'add noise to the variables after each update of --optimizer (under kolen_pollack '
             'only to backward kernels)'),
        _row('use_noisy_alignment_opt', bool, False, TRAINING,
             'the same for --alignment_optimizer'),
    ] + _noise('global_opt', 'updates of --optimizer') + _noise('alignment_opt', 'updates of '
                                                                                 '--alignment_optimizer')
      + _noise('opt', 'updates of either optimiser that has no distribution of its own'),
    'validation_params': [
        _row('eval_batch_size', int, 1024, TRAINING,
             'images at a time in a validation', at_least=1, always=True),
        _row('measure_images', int, 64, TRAINING,
             'the angles and activities of each validation are measured on so many images, the '
             'first ones of the validation set. They are all in memory at once: 64 images of 224 '
             'pixels take 2 GB in ResNet-18, 7 GB in ResNet-50 and 13 GB in ResNet-152',
             at_least=1),
        _row('save_alignment_coefficients', bool, False, TRAINING,
             'record alpha, beta and gamma with each validation'),
    ],
}
# fmt: on

LOADING = ('save_params', 'load_params')  # the groups that say where, not what
SEED = 'seed'  # stands beside the digests: runs that differ in it alone have the same settings

ROWS = collections.OrderedDict(
    (row.name, row._replace(group=group)) for group, rows in GROUPS.items() for row in rows
)


def _check_row(row, value, choices):
    """None, or what is wrong with a value."""
    if value is None:
        return None if row.default is None else 'needs a value'
    types = {float: (float, int), list: (tuple, list)}.get(row.kind, row.kind)
    if not isinstance(value, types) or (isinstance(value, bool) and row.kind is not bool):
        return 'must be {}, not {}'.format(
            {list: 'a list'}.get(row.kind, 'of type ' + row.kind.__name__), shown(value)
        )
    if row.kind is float and not abs(value) <= sys.float_info.max:
        return 'must be a finite number'
    if row.kind is int and abs(value) > LARGEST_INT:
        return 'must fit into 64 bits'
    if row.at_most is not None and value > row.at_most:
        return f'must be at most {row.at_most:g}, not {value!r}'
    legal = choices.get(row.choices, ()) if isinstance(row.choices, str) else row.choices
    if legal and value not in legal:
        return 'must be one of {}, not {}'.format(', '.join(legal), shown(value))
    if row.at_least is not None and value < row.at_least:
        return f'must be at least {row.at_least}, not {value!r}'
    if row.above is not None and value <= row.above:
        return f'must be above {row.above}, not {value!r}'
    return None


def _check_together(config):
    """What is wrong with values that are fine one by one: a list of sentences."""
    problems = []
    if config.minibatch_size and config.train_batch_size % config.minibatch_size:
        problems.append(
            f'--train_batch_size={config.train_batch_size} is no multiple of '
            f'--minibatch_size={config.minibatch_size}'
        )
    for row in ROWS.values():
        if (
            row.needs
            and getattr(config, row.name) != row.default
            and not any(_is_on(config, name) for name in row.needs)
        ):
            problems.append(
                '--{} has no effect without {}'.format(
                    row.name,
                    ' or '.join(
                        '--no' + name[1:] if name[0] == '!' else '--' + name for name in row.needs
                    ),
                )
            )
    for prefix in ('', 'alignment_'):
        drop, boundary = getattr(config, prefix + 'drop'), getattr(config, prefix + 'boundary_step')
        drop = config.drop if drop is None else drop
        boundary = config.boundary_step if boundary is None else boundary
        if getattr(config, prefix + 'manual_lr') and drop > 0 and boundary is None:
            problems.append(
                f'--{prefix}manual_lr with --{prefix}drop={drop} needs --{prefix}boundary_step'
            )
    for which in ('global_opt', 'alignment_opt'):
        distribution = (
            getattr(config, f'noisy_{which}_distribution') or config.noisy_opt_distribution
        )
        if getattr(config, 'use_noisy_' + which) and distribution is None:
            problems.append(
                f'--use_noisy_{which} needs --noisy_{which}_distribution (uniform or normal)'
            )
    if config.use_noisy_alignment_opt and not config.alignment_optimizer:
        problems.append('--use_noisy_alignment_opt needs --alignment_optimizer')
    for name in ('alpha', 'beta', 'gamma'):
        start, stop = getattr(config, name + '_start'), getattr(config, name + '_stop')
        if start > stop:
            problems.append(f'--{name}_start={start} lies after --{name}_stop={stop}')
        if (
            getattr(config, name + '_schedule_type') == 'cyclic'
            and getattr(config, name + '_cycle') is None
        ):
            problems.append(f'--{name}_schedule_type=cyclic needs --{name}_cycle (epochs)')
    try:
        query_of(config)
    except ConfigError as error:
        problems.append(str(error))
    if not all(type(units) is int and units > 0 for units in config.layers_list):
        problems.append('--layers_list must be a comma list of positive whole numbers')
    if not all(isinstance(name, str) for name in config.save_to_gfs):
        problems.append('--save_to_gfs must be a comma list of names')
    for name in config.override:
        if name not in ROWS:
            problems.append(f'--override: there is no setting {shown(name)}')
        elif ROWS[name].scope not in (MEANING, TRAINING):
            problems.append(f'--override={name} has no effect: this flag always counts')
    return problems


def query_of(config):
    """The MongoDB query of --load_query (MongoDB's Extended JSON), a dictionary; {} without one.
    Raises ConfigError.
    """
    if config.load_query is None:
        return {}
    try:
        query = json.loads(config.load_query)
        typed = json_util.loads(config.load_query)
    except (ValueError, TypeError, RecursionError, BSONError) as error:
        raise ConfigError(f'--load_query={shown(config.load_query)} is not JSON ({error})')
    if not isinstance(query, dict):
        raise ConfigError(
            f'--load_query={shown(config.load_query)} is no query, {{"field": value, ...}}'
        )
    executing = sorted(name for name in EXECUTING if f'"{name}"' in json.dumps(query))
    if executing:
        raise ConfigError(
            '--load_query may not hold {}, which runs code'.format(', '.join(executing))
        )
    return typed


def whole_steps(epochs: float, steps_per_epoch: int) -> int:
    """A duration in epochs as whole steps: what is a whole number but for rounding is that number
    (0.29 epochs of 100 steps are 29 steps), and the rest is cut."""
    return math.floor(epochs * steps_per_epoch + 1e-6)


def _is_on(config, need):
    return not getattr(config, need[1:]) if need[0] == '!' else bool(getattr(config, need))


class Digests(typing.NamedTuple):
    """What tells settings from others: 16 hexadecimal digits each, the same on every machine and
    every Python.

    meaning: of what the network computes and sees. settings: of that and of how it is trained. Both
    are taken over the settings that differ from their defaults, so that a setting which is added
    later changes no older digest. The seed is in neither of them.
    """

    meaning: str
    settings: str


def _digest(config, scopes):
    """The digest of a Config's settings of some Scopes."""
    values = {
        name: float(value) if ROWS[name].kind is float else value
        for name, value in config.differing().items()
        if ROWS[name].scope in scopes and name != SEED
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _immutable(value):
    return tuple(value) if isinstance(value, list) else value


class _Checked:
    @classmethod
    def of(cls, values, choices):
        """The Config of {name: value}; names that are missing take their default.

        choices: {registry name: legal values}. Raises ConfigError that lists every problem.
        """
        unknown = sorted(set(values) - set(ROWS))
        if unknown:
            raise ConfigError('no such setting: {}'.format(', '.join(unknown)))
        config = cls(**{name: _immutable(value) for name, value in values.items()})
        problems = [
            (row, _check_row(row, getattr(config, row.name), choices)) for row in ROWS.values()
        ]
        problems = [f'--{row.name} {problem}' for row, problem in problems if problem]
        problems = problems or _check_together(config)
        if problems:
            raise ConfigError('; '.join(problems))
        return config

    def differing(self):
        """{name: value} of the settings that differ from their default."""
        return {
            name: getattr(self, name)
            for name, row in ROWS.items()
            if getattr(self, name) != row.default
        }

    def replaced(self, values):
        """The Config with other values, {name: value}; lists become tuples. They are not checked;
        see `of`.
        """
        return dataclasses.replace(
            self, **{name: _immutable(value) for name, value in values.items()}
        )

    def digests(self):
        """The Digests of these settings."""
        return Digests(_digest(self, {MEANING}), _digest(self, {MEANING, TRAINING}))

    @property
    def exp_id(self):
        """The experiment's name in the database: the rule ('None' for backpropagation) and the
        suffix.
        """
        return str(self.alignment) + self.exp_id_suffix


Config = dataclasses.make_dataclass(
    'Config',
    [(row.name, row.kind, dataclasses.field(default=row.default)) for row in ROWS.values()],
    bases=(_Checked,),
    frozen=True,
    namespace={
        '__doc__': 'The typed, checked and frozen settings of a run; its fields are the rows of '
        'ROWS.'
    },
)
