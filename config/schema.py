"""The table of all settings: name, type, default, scope and help of each.

The flags and the params dictionary are generated from this table. The settings that rules declare
(config/declared.py) are inserted after the row 'alignment'.

To add a setting, add a row here and a field of the same name to Config.
"""

import dataclasses
import hashlib
import json
import math
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from config import declared
from config.declared import RuleSettings, Scheduled
from config.query import query_of
from config.rows import (
    CALL,
    MANY_EPOCHS,
    MEANING,
    PLACE,
    TRAINING,
    Choices,
    ConfigError,
    HelpGroup,
    Row,
    Scope,
    Value,
    problem,
    raise_problems,
    row,
    shown,
)


# fmt: off
def _learning_rate(prefix: str, of: str) -> List[Row]:
    """Returns the rows of one learning-rate schedule."""
    needs = ['alignment_optimizer'] if prefix else []
    changing = ['!' + prefix + 'constant_lr', prefix + 'manual_lr']
    return [
        row(prefix + 'learning_rate', float, 0.001, TRAINING, HelpGroup.SCHEDULE,
            f'learning rate of the {of}; with --{prefix}rescale_lr it is meant for '
            '--base_batch_size images per step', at_least=0.0, needs=needs),
        row(prefix + 'rescale_lr', bool, False, TRAINING, HelpGroup.SCHEDULE,
            f'multiply the learning rate of the {of} by train_batch_size / base_batch_size',
            needs=needs),
        row(prefix + 'constant_lr', bool, True, TRAINING, HelpGroup.SCHEDULE,
            f'keep the learning rate of the {of} constant; if off, it warms up, then drops '
            'tenfold at epochs 30, 60 and 80', needs=needs),
        row(prefix + 'warmup_epochs', float, 5.0, TRAINING, HelpGroup.SCHEDULE,
            f'epochs over which the learning rate of the {of} rises from 0 (with '
            f'--no{prefix}constant_lr or --{prefix}manual_lr)', at_least=0.0, needs=changing),
        row(prefix + 'drop_epochs', list, (), TRAINING, HelpGroup.SCHEDULE,
            f'epochs of the training (comma-separated, for example 50,75) at which the learning '
            f'rate of the {of} drops tenfold; it is constant between them and does not warm up',
            needs=needs),
        row(prefix + 'manual_lr', bool, False, TRAINING, HelpGroup.SCHEDULE,
            f'drop the learning rate of the {of} by hand, with --{prefix}drop and '
            f'--{prefix}boundary_step', needs=needs),
    ]


def _noise(prefix: str, of: str) -> List[Row]:
    """Returns the rows of the noise that is added to one kind of updates."""
    both = ['use_noisy_global_opt', 'use_noisy_alignment_opt']
    needs = both if prefix == 'opt' else ['use_noisy_' + prefix]
    return [
        row(f'noisy_{prefix}_distribution', str, None, TRAINING, HelpGroup.OPTIMIZER,
            f'distribution of the noise that is added to {of}', choices='distribution',
            needs=needs),
        row(f'noisy_{prefix}_variance', float, 1.0, TRAINING, HelpGroup.OPTIMIZER,
            f'variance of the noise that is added to {of}, before the noise is multiplied by the '
            'learning rate', at_least=0.0, needs=needs),
    ]


# The keys are the groups of a tfutils params dictionary. A row belongs to the group that lists it.
GROUPS: Dict[str, List[Row]] = {
    'save_params': [
        row('host', str, 'localhost', PLACE, HelpGroup.DATABASE, 'host name of the MongoDB server'),
        row('port', int, 29029, PLACE, HelpGroup.DATABASE,
            'port of the MongoDB server; if no server answers there on localhost, a private one '
            'is started', at_least=1),
        row('dbname', str, 'neur-al', PLACE, HelpGroup.DATABASE,
            'database in which the records are stored'),
        row('exp_id_suffix', str, '', PLACE, HelpGroup.DATABASE,
            'text that is appended to the name of the rule to give the exp_id, the name of the '
            'experiment'),
        row('cache_dir', str, None, PLACE, HelpGroup.DATABASE,
            'folder for local checkpoints and for files on their way to MongoDB; default: '
            '~/.tfutils. If it is in a gs:// bucket, it receives copies of the checkpoints, and '
            'the rest is stored in ~/.tfutils'),
        row('checkpoint_max', int, 5, PLACE, HelpGroup.CHECKPOINTS,
            'number of local checkpoints to keep', at_least=1),
        row('epochs_per_checkpoint', float, 2.0, TRAINING, HelpGroup.CHECKPOINTS,
            'epochs between two checkpoints in the database',
            above=0.0, at_most=MANY_EPOCHS),
        row('epochs_per_validation', float, None, TRAINING, HelpGroup.CHECKPOINTS,
            'epochs between two validations; default: a validation with each checkpoint in the '
            'database',
            above=0.0, at_most=MANY_EPOCHS),
        row('epochs_per_recent_checkpoint', float, None, TRAINING, HelpGroup.CHECKPOINTS,
            'epochs between two additional checkpoints, stored in a separate database that keeps '
            'only the newest 6 of them; default: no additional checkpoints',
            above=0.0, at_most=MANY_EPOCHS),
        row('save_to_gfs', list, (), PLACE, HelpGroup.DATABASE,
            'names of validation results (comma-separated, for example weight_angles) to store '
            'in GridFS instead of the record'),
        row('tensorboard', bool, False, PLACE, HelpGroup.DATABASE,
            'write losses, learning rates, top-1, angles, coefficients and images/s for '
            'TensorBoard into the folder of the local checkpoints'),
        row('dry_run', bool, False, CALL, HelpGroup.SETTINGS,
            'build the graph, print which gradients have a closed form and the cost of a step, '
            'and exit; nothing is trained or recorded'),
        row('skip_check', bool, True, CALL, HelpGroup.SETTINGS,
            'start even if the source tree has uncommitted changes'),
        row('quiet', bool, False, CALL, HelpGroup.SETTINGS,
            'print only warnings, errors and where the results are'),
        row('verbose', bool, False, CALL, HelpGroup.SETTINGS,
            'list every variable: its name, shape and role, and whether it was restored'),
    ],
    'load_params': [
        row('do_restore', bool, False, CALL, HelpGroup.CHECKPOINTS,
            'resume this experiment from its newest checkpoint (or --load_step) if it has one, '
            'with the model, rule and images of its record'),
        row('load_step', int, None, CALL, HelpGroup.CHECKPOINTS,
            'step of the checkpoint to restore; default: the newest', at_least=0),
        row('load_query', str, None, CALL, HelpGroup.CHECKPOINTS,
            'restore the newest checkpoint whose record also matches this MongoDB query in JSON, '
            'for example {"validation_results.topn_val.top1": {"$gt": 0.7}}'),
        row('load_db', bool, False, CALL, HelpGroup.CHECKPOINTS,
            'start from a checkpoint of another experiment in MongoDB, given by --load_exp_id and '
            'the other load_* flags'),
        row('load_port', int, None, CALL, HelpGroup.CHECKPOINTS,
            'port of the MongoDB server to restore from; default: --port', at_least=1),
        row('load_dbname', str, None, CALL, HelpGroup.CHECKPOINTS,
            'database to restore from; default: --dbname'),
        row('load_collname', str, None, CALL, HelpGroup.CHECKPOINTS,
            'collection to restore from; default: the collection of this model'),
        row('load_exp_id', str, None, CALL, HelpGroup.CHECKPOINTS,
            'exp_id to restore from; default: the exp_id of this experiment'),
        row('load_checkpoint', str, None, CALL, HelpGroup.CHECKPOINTS,
            'restore this local checkpoint: the path of its files without .index'),
        row('reset_step', bool, False, CALL, HelpGroup.CHECKPOINTS,
            'start a training from --load_db or --load_checkpoint at step 0 and with new '
            'optimiser slots (fine-tuning)', needs=['load_db', 'load_checkpoint']),
        row('override', list, (), CALL, HelpGroup.SETTINGS,
            'names of settings (comma-separated) whose flags count even if --load_params_file or '
            'the restored record has another value'),
        row('val_exp_id', str, None, CALL, HelpGroup.VALIDATION,
            'test.py only: exp_id under which the validation is recorded'),
        row('split', str, None, CALL, HelpGroup.VALIDATION,
            'test.py only: images to validate on: validation (those of --validation_split) or '
            'test; default: validation if there are any, else test',
            choices=('validation', 'test')),
    ],
    'model_params': [
        row('model', str, 'fc', MEANING, HelpGroup.MODEL,
            'network to train', choices='model', always=True),
        row('use_resnet_v2', bool, False, MEANING, HelpGroup.MODEL,
            'resnet18 to resnet200 only: use the pre-activation form, with inception preprocessing',
            always=True),
        row('image_size', int, None, MEANING, HelpGroup.DATA,
            'height and width of the images in pixels; default: 224, or 299 with '
            '--use_resnet_v2; 28 for mnist and fashion_mnist, 32 for cifar10 and '
            'cifar100, and for lenet on any data set', at_least=1, always=True),
        row('tf_layers', bool, False, MEANING, HelpGroup.MODEL,
            'use plain TensorFlow layers without backward kernels, as a reference for '
            'backpropagation (--alignment=none only)'),
        row('layers_list', list, (), MEANING, HelpGroup.MODEL,
            'fc only: number of units of each hidden layer (comma-separated, for example 32,16)'),
        row('activation', str, 'sigmoid', MEANING, HelpGroup.MODEL,
            'fc only: non-linearity of the hidden layers', choices='activation'),
        row('regularize_weights_via_model', bool, True, TRAINING, HelpGroup.LOSSES,
            "add the network's own L2 loss to the task loss: of the forward kernels, in ResNets "
            'also of the last bias, in lenet of all biases'),
        row('weight_decay', float, None, TRAINING, HelpGroup.LOSSES,
            'weight decay of all trained variables but backward kernels, in place of the L2 loss '
            'of the network: weight_decay times the variable is added to its gradient, as in '
            "PyTorch; default: none, the network's own L2 loss", at_least=0.0),
        row('freeze', list, (), TRAINING, HelpGroup.OPTIMIZER,
            'what is not trained and keeps its initial or restored values (comma-separated): '
            'layers by their names in records, with their backward kernels; or forward_kernel, '
            'bias or norm (gamma and beta of batch norm) in all layers'),
        row('bn_trainable', bool, True, TRAINING, HelpGroup.MODEL,
            'ResNets only: train gamma and beta of the batch norms'),
        row('alignment', str, None, MEANING, HelpGroup.RULE,
            'alignment rule; default: none, which is backpropagation', choices='alignment'),
        # In every listing, the settings that the rules declare follow here.
        row('update_forward', bool, False, MEANING, HelpGroup.RULE,
            'let the alignment loss train the forward kernels, too'),
        row('input_distribution', str, None, MEANING, HelpGroup.VIEW,
            "show the rule noise of this distribution instead of the layer's input",
            choices='noise'),
        row('input_stddev', float, 1.0, MEANING, HelpGroup.VIEW,
            'standard deviation of the noise of --input_distribution', above=0.0,
            needs=['input_distribution']),
        row('use_bias_forward', bool, True, MEANING, HelpGroup.VIEW,
            'add the bias to the forward projection Wx that the rule sees'),
        row('use_bias_backward', bool, True, MEANING, HelpGroup.VIEW,
            'add the bias to the backward projection Bx that the rule sees'),
        row('activation_fn_override', str, None, MEANING, HelpGroup.VIEW,
            'non-linearity of --activation_forward and --activation_backward; default: the '
            "layer's own",
            choices='activation', needs=['activation_forward', 'activation_backward']),
        row('activation_forward', bool, False, MEANING, HelpGroup.VIEW,
            'apply the non-linearity to Wx'),
        row('activation_backward', bool, False, MEANING, HelpGroup.VIEW,
            'apply the non-linearity to Bx'),
        row('batch_center_backward_input', bool, False, MEANING, HelpGroup.VIEW,
            'subtract the mean over the batch from the input that B projects'),
        row('center_input', bool, False, MEANING, HelpGroup.VIEW,
            'subtract the mean of each input from it'),
        row('normalize_input', bool, False, MEANING, HelpGroup.VIEW,
            'center each input, then divide it by its norm'),
        row('batch_center_forward_output', bool, False, MEANING, HelpGroup.VIEW,
            'subtract the mean over the batch from Wx and B(Wx)'),
        row('center_forward_output', bool, False, MEANING, HelpGroup.VIEW,
            "subtract each example's mean from its Wx and B(Wx)"),
        row('normalize_forward_output', bool, False, MEANING, HelpGroup.VIEW,
            'center each Wx and B(Wx), then divide it by its norm'),
        row('center_backward_output', bool, False, MEANING, HelpGroup.VIEW,
            "subtract each example's mean from its Bx and W(Bx)"),
        row('normalize_backward_output', bool, False, MEANING, HelpGroup.VIEW,
            'center each Bx and W(Bx), then divide it by its norm'),
        row('gpu', str, '0', CALL, HelpGroup.DEVICES,
            'index of the GPU to use, or several (comma-separated), over which each batch is '
            'split evenly; if CUDA_VISIBLE_DEVICES is set, the index counts within it; without a '
            'GPU the CPU is used'),
        row('cpu_devices', int, None, CALL, HelpGroup.DEVICES,
            'CPU only, for tests and teaching: split the CPU into this number of devices, to '
            'which --gpu then refers', at_least=1),
        row('sync_batch_norm', bool, False, TRAINING, HelpGroup.DEVICES,
            'ResNets on several devices only: let batch norm use the statistics of the whole '
            "batch instead of each device's part of it", always=True),
        row('worker_hosts', list, (), CALL, HelpGroup.DEVICES,
            'several hosts only: host:port of each machine that takes part in the training '
            '(comma-separated); the first one validates, saves and records; default: the hosts '
            'of the environment variable TF_CONFIG'),
        row('task_index', int, None, CALL, HelpGroup.DEVICES,
            'several hosts only: index of this process in --worker_hosts, from 0', at_least=0,
            needs=['worker_hosts']),
        row('tpu_name', str, None, CALL, HelpGroup.DEVICES,
            'TPU only: Cloud TPU to run on (v2-8 or v3-8): its name, its address (grpc://...) or '
            'local'),
        row('tpu_zone', str, None, CALL, HelpGroup.DEVICES,
            "TPU only: zone of the Cloud TPU; default: this machine's zone", needs=['tpu_name']),
        row('gcp_project', str, None, CALL, HelpGroup.DEVICES,
            "TPU only: Google Cloud project of the TPU; default: this machine's project",
            needs=['tpu_name']),
        row('num_shards', int, 8, CALL, HelpGroup.DEVICES,
            'TPU only: number of TPU cores', at_least=1, at_most=8,
            needs=['tpu_name']),
        row('iterations_per_loop', int, None, CALL, HelpGroup.DEVICES,
            'largest number of steps in one call of the device; nothing is recorded, validated '
            'or saved between them; default: 1, or 100 on a TPU', at_least=1),
        row('precision', str, 'float32', MEANING, HelpGroup.DEVICES,
            'type that convolutions and matrix products compute in; variables, batch-norm '
            'statistics, alignment losses and angles are always float32',
            choices=('float32', 'bfloat16', 'float16'), always=True),
        row('xla', bool, False, TRAINING, HelpGroup.DEVICES,
            'one CPU or GPU only: compile each step with XLA; this is slower on CPUs',
            always=True),
    ],
    'train_params': [
        row('data_dir', str, None, PLACE, HelpGroup.DATA,
            'folder or gs:// bucket of the images: TFRecords, or the files of MNIST, '
            'Fashion-MNIST or CIFAR'),
        row('dataset', str, 'mnist', MEANING, HelpGroup.DATA,
            'data set to train on', choices='dataset',
            always=True),
        row('preprocessing', str, None, MEANING, HelpGroup.DATA,
            'imagenet only: resnet (crop, mirror), inception (crop, mirror, colour) or plain '
            '(resize only); default: inception with --use_resnet_v2, else resnet',
            choices='preprocessing'),
        row('validation_split', int, 0, MEANING, HelpGroup.DATA,
            'mnist, fashion_mnist, cifar and synthetic only: number of training images to hold '
            'out for validation, the same images for every --seed; with 0, validations use the '
            'test images (search.py then holds out a tenth)', at_least=0, always=True),
        row('skip_bad_records', int, 0, TRAINING, HelpGroup.DATA,
            'number of damaged images that a run may skip in its training, and in each '
            'validation, before it stops; each is replaced by another image of the batch; not '
            'on a TPU or several hosts', at_least=0, always=True),
        row('max_pixels', int, 100_000_000, CALL, HelpGroup.DATA,
            'imagenet only: the most pixels that a stored image may have; a larger one counts as '
            'damaged, because a small file can need gigabytes of memory', at_least=1),
        row('train_epochs', float, 90.0, TRAINING, HelpGroup.TRAINING,
            'length of the training in epochs', at_least=0.0, at_most=MANY_EPOCHS),
        row('train_batch_size', int, 256, TRAINING, HelpGroup.TRAINING,
            'number of images per training step', at_least=1, always=True),
        row('minibatch_size', int, None, TRAINING, HelpGroup.TRAINING,
            'number of images that are computed at once, over all devices; the gradients of the '
            'minibatches of a batch are averaged before the update; default: the whole batch',
            at_least=1),
        row('validate_first', bool, True, TRAINING, HelpGroup.VALIDATION,
            'validate before the first step'),
        row('seed', int, 0, TRAINING, HelpGroup.TRAINING,
            'seed of the initial kernels, the order of the images, their distortions and all '
            'noise', at_least=0, always=True),
    ],
    'loss_params': [
        row('loss_rate', float, 1.0, TRAINING, HelpGroup.LOSSES,
            'weight of the task loss and the regularisation loss in the total loss'),
        row('alignment_rate', float, 1.0, TRAINING, HelpGroup.LOSSES,
            'rules with a loss only: weight of the alignment loss in the total loss'),
        row('delay_epochs', float, None, TRAINING, HelpGroup.LOSSES,
            'number of epochs at the start during which the task loss is off', above=0.0,
            at_most=MANY_EPOCHS),
        row('alternate_step_freq', int, None, TRAINING, HelpGroup.LOSSES,
            'rules with a loss only: number of task steps after each alignment step; default: '
            'every step is both', at_least=1),
        row('constant_rate', bool, True, TRAINING, HelpGroup.LOSSES,
            'keep both weights constant; if off, they drop tenfold at epochs 30, 60 and 80'),
    ],
    'learning_rate_params': _learning_rate('', 'task loss')
    + _learning_rate('alignment_', 'alignment loss') + [
        row('base_batch_size', int, 256, TRAINING, HelpGroup.SCHEDULE,
            'number of images per step for which the learning rates are meant',
            at_least=1, needs=['rescale_lr', 'alignment_rescale_lr']),
        row('drop', int, 0, TRAINING, HelpGroup.SCHEDULE,
            'with --manual_lr: number of tenfold drops that are made by the end of this run (0: '
            'warm up, then constant)',
            at_least=0, needs=['manual_lr', 'alignment_manual_lr']),
        row('alignment_drop', int, None, TRAINING, HelpGroup.SCHEDULE,
            'like --drop, for the alignment loss; default: --drop',
            at_least=0, needs=['alignment_manual_lr']),
        row('boundary_step', int, None, TRAINING, HelpGroup.SCHEDULE,
            'with --manual_lr: last step before the last of the drops that --drop counts',
            at_least=0, needs=['manual_lr', 'alignment_manual_lr']),
        row('alignment_boundary_step', int, None, TRAINING, HelpGroup.SCHEDULE,
            'like --boundary_step, for the alignment loss; default: --boundary_step',
            at_least=0, needs=['alignment_manual_lr']),
    ],
    'optimizer_params': [
        row('optimizer', str, 'gd', TRAINING, HelpGroup.OPTIMIZER,
            'optimiser of the task loss, and of the alignment loss unless --alignment_optimizer '
            'is given', choices='optimizer'),
        row('nesterov', bool, True, TRAINING, HelpGroup.OPTIMIZER,
            "momentum only: use Nesterov's correction, as the original program does"),
        row('alignment_optimizer', str, None, TRAINING, HelpGroup.OPTIMIZER,
            'rules with a loss only: separate optimiser for the alignment loss',
            choices='optimizer'),
        row('grad_clip', bool, False, TRAINING, HelpGroup.OPTIMIZER, 'clip the gradients'),
        row('grad_clipping_value', float, 1.0, TRAINING, HelpGroup.OPTIMIZER,
            'largest norm, or largest absolute value, of the gradients',
            above=0.0, needs=['grad_clip']),
        row('grad_clipping_method', str, 'norm', TRAINING, HelpGroup.OPTIMIZER,
            'what is clipped: the norm of all gradients together, or each value',
            choices='clipping', needs=['grad_clip']),
        row('use_noisy_global_opt', bool, False, TRAINING, HelpGroup.OPTIMIZER,
            'add noise to the variables after each update of --optimizer (with rules that give B '
            'the gradient of W, such as kolen_pollack, only to backward kernels)'),
        row('use_noisy_alignment_opt', bool, False, TRAINING, HelpGroup.OPTIMIZER,
            'add noise to the variables after each update of --alignment_optimizer'),
    ] + _noise('global_opt', 'updates of --optimizer')
      + _noise('alignment_opt', 'updates of --alignment_optimizer')
      + _noise('opt', 'updates of an optimiser that has no distribution'),
    'validation_params': [
        row('eval_batch_size', int, 1024, TRAINING, HelpGroup.VALIDATION,
            'number of images that a validation computes at once', at_least=1, always=True),
        row('measure_images', int, 64, TRAINING, HelpGroup.VALIDATION,
            'number of measured images: the first images of the validation set, on which each '
            'validation measures angles, errors and activities. They are all in memory at once: 64 '
            'images of 224 pixels need 2 GB in ResNet-18, or 3 GB if there is a rule, and '
            'several times as much in ResNet-50 and ResNet-152', at_least=1),
        row('save_alignment_coefficients', bool, False, TRAINING, HelpGroup.VALIDATION,
            "rules with a loss only: record the rule's coefficients with each validation"),
    ],
}
# fmt: on

MANY_UNITS = 2**31 - 1  # of a hidden layer
LOADING = ('save_params', 'load_params')  # groups that decide where to store, not what to train
SEED = 'seed'  # in no digest, so that runs that differ only in the seed have the same digests

ROWS: Dict[str, Row] = {
    each.name: each._replace(group=group) for group, rows in GROUPS.items() for each in rows
}
# Names, besides those in ROWS, that a rule must not give to a setting: other flags of the commands,
# and other fields of records.
TAKEN = frozenset(
    ['load_params_file', 'save_params_file', 'space', 'trials', 'study', 'prune']
    + ['recipe', 'grid', 'name', 'workers', 'threads', 'csv', 'json', 'figure', 'metric']
    + ['verify', 'verify_seed']
    + ['help', 'helpshort', 'helpfull', 'helpxml', 'only_check_flags', 'flagfile', 'undefok']
    + ['func', 'num_classes', 'image_shape', 'cfg_final', 'declared']
)


def rows_of(choices: Choices, values: Mapping[str, object] = {}) -> Dict[str, Row]:
    """Returns {name: Row} of all settings: those in the table and those that the rules declare.

    Args:
        choices: {registry name: legal values}; choices['alignment'] holds the declarations of the
            rules.
        values: {name: value}. If choices does not hold the declarations, the names that are not in
            the table, and that a rule could declare, are taken to be settings of a rule.

    Raises:
        ConfigError: A rule declares a name that is taken.
    """
    rules = choices.get('alignment')
    if not isinstance(rules, Mapping):
        others = {name: value for name, value in values.items() if name not in ROWS}
        return in_order(declared.inferred(others))
    negated = {'no' + name for name, each in ROWS.items() if each.kind is bool}
    return in_order(declared.rows_of(rules, TAKEN | set(ROWS) | negated))


def in_order(rows: Iterable[Row]) -> Dict[str, Row]:
    """Returns {name: Row} of the table, with the rows that rules declare after 'alignment'."""
    table: Dict[str, Row] = {}
    for name, each in ROWS.items():
        table[name] = each
        if name == 'alignment':
            table.update((own.name, own) for own in rows)
    return table


class Digests(NamedTuple):
    """Checksums of settings: 16 hexadecimal digits each, the same on every machine and Python.

    Both cover only the settings that differ from their defaults, so that adding a setting does not
    change older digests. Neither covers the seed.

    Attributes:
        meaning: Digest of the settings of scope MEANING.
        settings: Digest of the settings of scopes MEANING and TRAINING.
    """

    meaning: str
    settings: str


@dataclasses.dataclass(frozen=True)
class Config:
    """The typed, checked and frozen settings of a run. The fields are the rows of ROWS.

    The settings that rules declare are in rule_settings: `config.of_rule('use_sparse')`,
    `config.coefficient('alpha').start`. `config['alpha']` returns any setting by its name.
    """

    # save_params
    host: str = 'localhost'
    port: int = 29029
    dbname: str = 'neur-al'
    exp_id_suffix: str = ''
    cache_dir: Optional[str] = None
    checkpoint_max: int = 5
    epochs_per_checkpoint: float = 2.0
    epochs_per_validation: Optional[float] = None
    epochs_per_recent_checkpoint: Optional[float] = None
    save_to_gfs: Tuple[str, ...] = ()
    tensorboard: bool = False
    dry_run: bool = False
    skip_check: bool = True
    quiet: bool = False
    verbose: bool = False
    # load_params
    do_restore: bool = False
    load_step: Optional[int] = None
    load_query: Optional[str] = None
    load_db: bool = False
    load_port: Optional[int] = None
    load_dbname: Optional[str] = None
    load_collname: Optional[str] = None
    load_exp_id: Optional[str] = None
    load_checkpoint: Optional[str] = None
    reset_step: bool = False
    override: Tuple[str, ...] = ()
    val_exp_id: Optional[str] = None
    split: Optional[str] = None
    # model_params
    model: str = 'fc'
    use_resnet_v2: bool = False
    image_size: Optional[int] = None
    tf_layers: bool = False
    layers_list: Tuple[int, ...] = ()
    activation: str = 'sigmoid'
    regularize_weights_via_model: bool = True
    weight_decay: Optional[float] = None
    freeze: Tuple[str, ...] = ()
    bn_trainable: bool = True
    alignment: Optional[str] = None
    update_forward: bool = False
    input_distribution: Optional[str] = None
    input_stddev: float = 1.0
    use_bias_forward: bool = True
    use_bias_backward: bool = True
    activation_fn_override: Optional[str] = None
    activation_forward: bool = False
    activation_backward: bool = False
    batch_center_backward_input: bool = False
    center_input: bool = False
    normalize_input: bool = False
    batch_center_forward_output: bool = False
    center_forward_output: bool = False
    normalize_forward_output: bool = False
    center_backward_output: bool = False
    normalize_backward_output: bool = False
    gpu: str = '0'
    cpu_devices: Optional[int] = None
    sync_batch_norm: bool = False
    worker_hosts: Tuple[str, ...] = ()
    task_index: Optional[int] = None
    tpu_name: Optional[str] = None
    tpu_zone: Optional[str] = None
    gcp_project: Optional[str] = None
    num_shards: int = 8
    iterations_per_loop: Optional[int] = None
    precision: str = 'float32'
    xla: bool = False
    # train_params
    data_dir: Optional[str] = None
    dataset: str = 'mnist'
    preprocessing: Optional[str] = None
    validation_split: int = 0
    skip_bad_records: int = 0
    max_pixels: int = 100_000_000
    train_epochs: float = 90.0
    train_batch_size: int = 256
    minibatch_size: Optional[int] = None
    validate_first: bool = True
    seed: int = 0
    # loss_params
    loss_rate: float = 1.0
    alignment_rate: float = 1.0
    delay_epochs: Optional[float] = None
    alternate_step_freq: Optional[int] = None
    constant_rate: bool = True
    # learning_rate_params
    learning_rate: float = 0.001
    rescale_lr: bool = False
    constant_lr: bool = True
    warmup_epochs: float = 5.0
    drop_epochs: Tuple[int, ...] = ()
    manual_lr: bool = False
    alignment_learning_rate: float = 0.001
    alignment_rescale_lr: bool = False
    alignment_constant_lr: bool = True
    alignment_warmup_epochs: float = 5.0
    alignment_drop_epochs: Tuple[int, ...] = ()
    alignment_manual_lr: bool = False
    base_batch_size: int = 256
    drop: int = 0
    alignment_drop: Optional[int] = None
    boundary_step: Optional[int] = None
    alignment_boundary_step: Optional[int] = None
    # optimizer_params
    optimizer: str = 'gd'
    nesterov: bool = True
    alignment_optimizer: Optional[str] = None
    grad_clip: bool = False
    grad_clipping_value: float = 1.0
    grad_clipping_method: str = 'norm'
    use_noisy_global_opt: bool = False
    use_noisy_alignment_opt: bool = False
    noisy_global_opt_distribution: Optional[str] = None
    noisy_global_opt_variance: float = 1.0
    noisy_alignment_opt_distribution: Optional[str] = None
    noisy_alignment_opt_variance: float = 1.0
    noisy_opt_distribution: Optional[str] = None
    noisy_opt_variance: float = 1.0
    # validation_params
    eval_batch_size: int = 1024
    measure_images: int = 64
    save_alignment_coefficients: bool = False
    # the settings that rules declare, all in model_params
    rule_settings: RuleSettings = RuleSettings()

    @classmethod
    def of(cls, values: Mapping[str, object], choices: Choices) -> 'Config':
        """Returns the checked Config of {name: value}; missing settings have their defaults.

        Args:
            values: {name: value}; lists become tuples.
            choices: {registry name: legal values}. If it does not hold the declarations of the
                rules, any setting that a rule could declare is accepted.

        Raises:
            ConfigError: A value is not legal, or values contradict each other. The message lists
                every problem.
        """
        table = rows_of(choices, values)
        unknown = sorted(set(values) - set(table))
        if unknown:
            raise ConfigError(f'there is no such setting: {", ".join(unknown)}')
        fixed = {name: immutable(value) for name, value in values.items()}
        problems = [
            f'--{name} {wrong}'
            for name, each in table.items()
            for wrong in [problem(each, fixed.get(name, each.default), choices)]
            if wrong
        ]
        raise_problems(problems)
        rows = [each for name, each in table.items() if name not in ROWS]
        own = {each.name: fixed.pop(each.name, each.default) for each in rows}
        own = declared.settled(rows, own, fixed.get('alignment'))
        config = _with(cls(rule_settings=RuleSettings(rows, own)), fixed)
        raise_problems(_check_together(config))
        return config

    @property
    def rows(self) -> Dict[str, Row]:
        """All settings: {name: Row}."""
        return in_order(self.rule_settings.rows.values())

    def __getitem__(self, name: str) -> Value:
        return self.rule_settings[name] if name in self.rule_settings else getattr(self, name)

    def of_rule(self, name: str) -> Value:
        """Returns a setting that rules declare; None stands for the rule's own default."""
        return self.rule_settings.get(name)

    def coefficient(self, name: str) -> Scheduled:
        """Returns a coefficient of a rule, with its schedule."""
        return self.rule_settings.coefficient(name)

    def values(self) -> Dict[str, Value]:
        """Returns all settings: {name: value}."""
        return {name: self[name] for name in self.rows}

    def own(self) -> List[Row]:
        """Returns the rows of all settings except unset ones that only other rules declare."""
        names = set(self.rule_settings.of(self.alignment))
        return [
            each
            for name, each in self.rows.items()
            if name in names or name not in self.rule_settings
        ]

    def differing(self) -> Dict[str, Value]:
        """Returns the settings that differ from their defaults: {name: value}."""
        return {name: self[name] for name, each in self.rows.items() if self[name] != each.default}

    def replaced(self, values: Mapping[str, Value]) -> 'Config':
        """Returns a Config with other values, which are not checked (see `of`).

        Args:
            values: {name: value}; lists become tuples.
        """
        fixed = {name: immutable(value) for name, value in values.items()}
        own = {name: fixed.pop(name) for name in list(fixed) if name in self.rule_settings}
        return _with(self, dict(fixed, rule_settings=self.rule_settings.replaced(own)))

    def digests(self) -> Digests:
        """Returns the Digests of these settings."""
        return Digests(self._digest(MEANING), self._digest(MEANING, TRAINING))

    def _digest(self, *scopes: Scope) -> str:
        """Returns the digest of the settings of these scopes."""
        rows = self.rows
        values = {
            name: float(value) if isinstance(value, int) and rows[name].kind is float else value
            for name, value in self.differing().items()
            if rows[name].scope in scopes and name != SEED
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def validates_each(self) -> float:
        """Epochs between two validations."""
        return self.epochs_per_validation or self.epochs_per_checkpoint

    @property
    def exp_id(self) -> str:
        """Name of the experiment: the rule ('None' for backpropagation), then the suffix."""
        return str(self.alignment) + self.exp_id_suffix


def _with(config: Config, fields: Dict[str, Value]) -> Config:
    """Returns the Config with other fields, whose types have been checked."""
    return dataclasses.replace(config, **fields)  # type: ignore[arg-type]


def immutable(value: object) -> Value:
    """Returns a value as a Config holds it: a list becomes a tuple."""
    return tuple(value) if isinstance(value, list) else value


def whole_steps(epochs: float, steps_per_epoch: int) -> int:
    """Returns a duration in epochs as whole steps, rounded down.

    A number that is whole except for a rounding error counts as whole: 0.29 epochs of 100 steps are
    29 steps.
    """
    return math.floor(epochs * steps_per_epoch + 1e-6)


def _check_together(config: Config) -> List[str]:
    """Returns a sentence for each problem of values that are legal one by one."""
    problems = []
    if config.minibatch_size and config.train_batch_size % config.minibatch_size:
        problems.append(
            f'--train_batch_size={config.train_batch_size} is not a multiple of '
            f'--minibatch_size={config.minibatch_size}'
        )
    problems += _check_needs(config)
    problems += _check_learning_rates(config)
    problems += _check_drops('', config.drop_epochs, config.constant_lr, config.manual_lr)
    problems += _check_drops(
        'alignment_',
        config.alignment_drop_epochs,
        config.alignment_constant_lr,
        config.alignment_manual_lr,
    )
    problems += _check_optimizers(config)
    problems += _check_noise(config)
    problems += _check_coefficients(config)
    try:
        query_of(config.load_query)
    except ConfigError as error:
        problems.append(str(error))
    if not all(type(units) is int and 0 < units <= MANY_UNITS for units in config.layers_list):
        problems.append('--layers_list must be a comma list of positive whole numbers')
    if not all(isinstance(name, str) for name in config.save_to_gfs):
        problems.append('--save_to_gfs must be a comma list of names')
    if not all(isinstance(name, str) and name for name in config.freeze):
        problems.append('--freeze must be a comma list of names')
    return problems + _check_override(config)


def _check_needs(config: Config) -> List[str]:
    """Returns a sentence for each setting that has no effect without another one."""

    def is_on(need: str) -> bool:
        return not config[need[1:]] if need[0] == '!' else bool(config[need])

    return [
        '--{} has no effect without {}'.format(
            name,
            ' or '.join(
                '--no' + need[1:] if need[0] == '!' else '--' + need for need in each.needs
            ),
        )
        for name, each in config.rows.items()
        if each.needs and config[name] != each.default and not any(map(is_on, each.needs))
    ]


def _check_learning_rates(config: Config) -> List[str]:
    problems = []
    for prefix, manual, drop, boundary in (
        ('', config.manual_lr, config.drop, config.boundary_step),
        (
            'alignment_',
            config.alignment_manual_lr,
            config.drop if config.alignment_drop is None else config.alignment_drop,
            config.boundary_step
            if config.alignment_boundary_step is None
            else config.alignment_boundary_step,
        ),
    ):
        if manual and drop > 0 and boundary is None:
            problems.append(
                f'--{prefix}manual_lr with --{prefix}drop={drop} needs --{prefix}boundary_step'
            )
    return problems


def _check_drops(prefix: str, epochs: Tuple[int, ...], constant: bool, manual: bool) -> List[str]:
    """Returns a sentence for each problem of --drop_epochs, or of --alignment_drop_epochs."""
    if not epochs:
        return []
    flag = f'--{prefix}drop_epochs={",".join(map(shown, epochs))}'
    problems = []
    if not all(type(epoch) is int and 0 < epoch <= MANY_EPOCHS for epoch in epochs):
        flag = f'--{prefix}drop_epochs'
        problems.append(f'{flag} must be a comma list of positive whole numbers')
    elif list(epochs) != sorted(set(epochs)):
        problems.append(f'{flag} must be in ascending order, each epoch once')
    if not constant:
        problems.append(
            f'{flag} and --no{prefix}constant_lr, which drops at epochs 30, 60 and 80, cannot be '
            'combined; leave out one of them'
        )
    if manual:
        problems.append(
            f'{flag} and --{prefix}manual_lr, which drops by hand, cannot be combined; leave out '
            'one of them'
        )
    return problems


def _check_optimizers(config: Config) -> List[str]:
    problems = []
    if not config.nesterov and 'momentum' not in (config.optimizer, config.alignment_optimizer):
        problems.append('--nonesterov has no effect without --optimizer=momentum')
    if config.weight_decay is not None and not config.regularize_weights_via_model:
        problems.append(
            '--noregularize_weights_via_model has no effect with --weight_decay, which replaces '
            'the L2 loss of the network; leave out one of them'
        )
    return problems


def _check_noise(config: Config) -> List[str]:
    problems = []
    for which, is_noisy, distribution in (
        ('global_opt', config.use_noisy_global_opt, config.noisy_global_opt_distribution),
        ('alignment_opt', config.use_noisy_alignment_opt, config.noisy_alignment_opt_distribution),
    ):
        if is_noisy and (distribution or config.noisy_opt_distribution) is None:
            problems.append(
                f'--use_noisy_{which} needs --noisy_{which}_distribution (uniform or normal)'
            )
    if config.use_noisy_alignment_opt and not config.alignment_optimizer:
        problems.append('--use_noisy_alignment_opt needs --alignment_optimizer')
    return problems


def _check_coefficients(config: Config) -> List[str]:
    problems = []
    for name in config.rule_settings.coefficients:
        schedule = config.coefficient(name)
        if schedule.start > schedule.stop:
            problems.append(
                f'--{name}_start={schedule.start} is after --{name}_stop={schedule.stop}'
            )
        if schedule.kind == 'cyclic' and schedule.cycle is None:
            problems.append(f'--{name}_schedule_type=cyclic needs --{name}_cycle (epochs)')
    return problems


def _check_override(config: Config) -> List[str]:
    problems, rows = [], config.rows
    for name in config.override:
        if name not in rows:
            problems.append(f'--override: there is no setting {shown(name)}')
        elif rows[name].scope not in (MEANING, TRAINING):
            problems.append(f'--override={name} has no effect: this flag always counts')
    return problems
