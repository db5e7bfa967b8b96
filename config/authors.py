"""Converts the authors' settings files to settings of this program.

The released .pkl files are Python 2 pickles, made by dill, of live objects: functions with their
closures, methods and instances. config/pickles.py executes nothing in them: every object becomes an
Inert, which only notes how the object would be made. `settings` then finds the values of our
settings in these notes. The layout of the files is taken from the released code
(github.com/neuroailab/Neural-Alignment, params.py).
"""

from typing import Dict, List, Optional, Tuple

from config.declared import OLDER
from config.pickles import DEEPEST, Inert, PickleError, check_extent, is_call_of
from config.rows import ANY, ConfigError, shown
from config.schema import rows_of, whole_steps

Values = Dict[str, object]  # {name of our setting: value}; None if the file does not contain it

TRAIN_IMAGES = {'imagenet': 1281167, 'mnist': 60000}

RULES = {
    'Feedback': 'feedback',
    'Symmetric': 'symmetric',
    'Activation': 'activation',
    'Mirror': 'mirror',
    'Information': 'information',
    'Kolen_Pollack': 'kolen_pollack',
}
# The rules whose losses do not depend on the options in VIEW.
BLIND = {'feedback': True, 'symmetric': True, 'kolen_pollack': True}
VIEW = [
    'input_distribution',
    'input_stddev',
    'use_bias_forward',
    'use_bias_backward',
    'activation_fn_override',
    'activation_forward',
    'activation_backward',
    'batch_center_backward_input',
    'center_input',
    'normalize_input',
    'batch_center_forward_output',
    'center_forward_output',
    'normalize_forward_output',
    'center_backward_output',
    'normalize_backward_output',
]
SWITCHES = {'information': ['reconstruction_reversal', 'reconstruction_amp', 'use_sparse']}
COEFFICIENTS = ('alpha', 'beta', 'gamma')
KNOWN = rows_of(ANY, OLDER)

OPTIMIZERS = {
    'GradientDescentOptimizer': 'gd',
    'MomentumOptimizer': 'momentum',
    'AdagradOptimizer': 'adagrad',
    'RMSPropOptimizer': 'rmsprop',
    'AdamOptimizer': 'adam',
    'RAdamOptimizer': 'radam',
    'SWATSOptimizer': 'swats',
}

# Positions in the arguments of the calls by which dill makes an object:
CODE, NAME, CLOSURE = 0, 2, 4  # _create_function(code, globals, name, defaults, closure, ...)
FREE_NAMES = -2  # CodeType(..., free variables, cell variables)
BASES, ATTRIBUTES = 2, 3  # _create_type(type, name, bases, attributes)

# Known keys that have no setting here: they describe the authors' machines, repeat another key, or
# have only one possible value in this program.
PASSED_OVER: Dict[str, List[str]] = {
    'save_params': [
        'host',
        'port',
        'dbname',
        'collname',
        'do_save',
        'save_filters_freq',
        'cache_filters_freq',
        'cache_dir',
        'checkpoint_max',
    ],
    'load_params': ['do_restore', 'query'],
    'model_params': [
        'model_prefix',
        'num_classes',
        'num_gpus',
        'devices',
        'tpu_name',
        'gcp_project',
        'tpu_zone',
        'num_shards',
        'iterations_per_loop',
        'gpu_mode',
    ],
    'train_params': ['targets', 'thres_loss', 'include_global_step'],
    'loss_params': ['targets', 'agg_func', 'loss_per_case_func'],
    'learning_rate_params': [],
    'optimizer_params': ['optimizer'],
    'validation_params': [],
}


def is_authors(document: Dict[str, object]) -> bool:
    """Returns whether the content of a pickle has the form of the authors' files."""
    params = document.get('params')
    return isinstance(params, dict) and all(
        isinstance(params.get(group), dict) for group in PASSED_OVER
    )


def settings(document: Dict[str, Dict[str, object]]) -> Tuple[Values, List[str]]:
    """Returns ({name: value} of our settings, descriptions of what was not understood).

    Args:
        document: From `pickles.inert`; `is_authors` is true for it.

    Raises:
        ConfigError: The file contains a value or an object that has no counterpart here.
    """
    groups = {name: _Group(name, document['params'][name]) for name in PASSED_OVER}
    values = _data(groups)
    values.update(_model(groups['model_params']))
    values.update(_loss(groups['loss_params']))
    rate, alignment_rate = _learning_rates(groups['learning_rate_params'])
    values.update(_learning_rate('', rate))
    values.update(_optimizers(groups['optimizer_params']))
    if alignment_rate is not None:
        values.update(_learning_rate('alignment_', alignment_rate))
    values.update(_alignment(groups['model_params']))
    exp_id = groups['save_params'].take('exp_id')
    if isinstance(exp_id, str) and exp_id.startswith(str(values.get('alignment'))):
        values['exp_id_suffix'] = exp_id[len(str(values.get('alignment'))) :]
    values = {name: value for name, value in values.items() if value is not None}
    effective = {name: value for name, value in values.items() if _has_effect(name, values)}
    for name, value in effective.items():
        if (
            isinstance(value, Inert)
            or isinstance(value, (list, dict))
            and KNOWN[name].kind is not list
        ):
            raise ConfigError(f'{name} is {shown(value)}, which is not a legal value')
    try:
        check_extent(effective)
    except PickleError as error:
        raise ConfigError(str(error))
    others = [
        f'params[{name!r}]'
        for name in document['params']
        if name not in PASSED_OVER and name != 'skip_check'
    ]
    return effective, sorted(others + [note for group in groups.values() for note in group.rest()])


def _has_effect(name: str, values: Values) -> bool:
    """Returns whether a setting has an effect, given the other settings in the file."""

    def is_on(need: str) -> bool:
        setting = need.lstrip('!')
        return bool(values.get(setting, KNOWN[setting].default)) != need.startswith('!')

    return not KNOWN[name].needs or any(is_on(need) for need in KNOWN[name].needs)


class _Group:
    """A dictionary in the file that notes which of its keys have been read."""

    def __init__(self, path: str, content: object) -> None:
        self.path = path
        self._content: Dict[str, object] = content if isinstance(content, dict) else {}
        self._unread = set(self._content) - set(PASSED_OVER.get(path, ()))
        self._parts: List[_Group] = []
        self._notes: List[str] = []

    def take(self, key: str) -> object:
        """Returns the value of a key; None if there is no such key."""
        self._unread.discard(key)
        return self._content.get(key)

    def part(self, key: str) -> '_Group':
        """Returns the dictionary that is the value of a key."""
        part = _Group(f'{self.path}.{key}', self.take(key))
        self._parts.append(part)
        return part

    def note(self, text: str) -> None:
        """Notes something that was not understood."""
        self._notes.append(f'{self.path}: {text}')

    def rest(self) -> List[str]:
        """Returns descriptions of what was not read or not understood."""
        unread = [f'{self.path}.{key}' for key in self._unread]
        return unread + self._notes + [note for part in self._parts for note in part.rest()]


def closure(function: object) -> Dict[str, object]:
    """Returns {name: value} of a function's free variables in dill's form; else {}."""
    if not is_call_of(function, '_create_function'):
        return {}
    names = _argument(_argument(function, CODE), FREE_NAMES)
    cells = _argument(function, CLOSURE)
    if not isinstance(names, tuple) or not isinstance(cells, tuple):
        return {}
    return {name: _content(cell) for name, cell in zip(names, cells) if isinstance(name, str)}


def _content(cell: object) -> object:
    """Returns the content of a cell of a closure."""
    if not isinstance(cell, Inert):
        return cell
    return cell.state.get('cell_contents', _argument(cell, 0))


def called(thing: object) -> Optional[str]:
    """Returns the bare name of a function, a class or an instance's class; else None."""
    for _ in range(DEEPEST):
        if not isinstance(thing, Inert):
            return None
        if thing.name:
            return thing.name.split('.')[-1]
        if is_call_of(thing, '_create_function'):
            name = _argument(thing, NAME)
            return name if isinstance(name, str) else None
        thing = _argument(thing, 0) if is_call_of(thing, '_reconstructor') else thing.of
    return None


def _argument(thing: object, position: int) -> object:
    """Returns an argument of the call that makes an Inert; None if there is no such argument."""
    arguments = thing.args if isinstance(thing, Inert) else ()
    return arguments[position] if -len(arguments) <= position < len(arguments) else None


def _data(groups: Dict[str, _Group]) -> Values:
    train, validation = groups['train_params'], groups['validation_params'].part('topn_val')
    source, validation_source = train.part('data_params'), validation.part('data_params')
    provider = source.take('func')
    for part in (source, validation_source):
        for key in ('is_train', 'group', 'directory', 'q_cap', 'file_pattern', 'func'):
            part.take(key)
    for key in ('num_steps', 'agg_func', 'online_agg_func'):
        validation.take(key)
    targets = validation.part('targets')
    coefficients = targets.take('alignment') is not None
    for key in ('func', 'num_classes'):
        targets.take(key)
    owner = next(
        (part for part in getattr(provider, 'args', ()) if called(part) == 'ImageNet'), None
    )
    dataset = (
        'imagenet'
        if isinstance(owner, Inert)
        else 'mnist'
        if called(provider) == 'build_data'
        else None
    )
    if dataset is None:
        raise ConfigError(
            'train_params.data_params.func is {}; only ImageNet and MNIST are known'.format(
                called(provider) or 'missing'
            )
        )
    batch = source.take('batch_size')
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise ConfigError(f'train_params.data_params.batch_size is {shown(batch)}')
    per_epoch = max(1, TRAIN_IMAGES[dataset] // batch)
    # As in the original code, the preprocessing and the image size in the file are ignored:
    # --use_resnet_v2 and --image_size decide.
    return {
        'dataset': dataset,
        'train_batch_size': batch,
        'eval_batch_size': validation_source.take('batch_size'),
        'minibatch_size': train.take('minibatch_size'),
        'validate_first': train.take('validate_first'),
        'train_epochs': _epochs(train.take('num_steps'), per_epoch),
        'epochs_per_checkpoint': _epochs(groups['save_params'].take('save_valid_freq'), per_epoch),
        'save_alignment_coefficients': coefficients or None,
    }


def _epochs(steps: object, per_epoch: int) -> Optional[float]:
    """Returns a duration in epochs that `whole_steps` converts back to `steps`."""
    if not isinstance(steps, int) or isinstance(steps, bool):
        return None
    exact = round(steps / per_epoch, 3)
    return exact if whole_steps(exact, per_epoch) == steps else (steps + 0.5) / per_epoch


def _model(group: _Group) -> Values:
    func = called(group.take('func'))
    if func == 'fc':
        units = group.take('layers_list') or []
        return {
            'model': 'fc',
            'layers_list': tuple(units) if isinstance(units, list) else units,
            'activation': group.take('activation'),
        }
    size = group.take('resnet_size')
    group.take('layers_list')
    if func is None or type(size) is not int:
        raise ConfigError(
            'model_params contains neither fc nor a ResNet (func is {})'.format(func or 'missing')
        )
    if group.take('use_v2'):
        group.note('use_v2=True; only --use_resnet_v2 counts, as in the original')
    return {
        'model': f'resnet{size}',
        'tf_layers': group.take('tf_layers'),
        'bn_trainable': group.take('bn_trainable'),
        'regularize_weights_via_model': group.take('regularize_weights'),
    }


def _alignment(group: _Group) -> Values:
    rule = group.take('alignment')
    if rule is None:
        return {'alignment': None}
    name = RULES.get(called(rule) or '')
    if name is None or not isinstance(rule, Inert):
        raise ConfigError(
            'model_params.alignment is {}; the known rules are {}'.format(
                called(rule) or shown(rule), ', '.join(RULES)
            )
        )
    values: Values = {'alignment': name, 'update_forward': rule.state.get('update_forward') or None}
    for option in ([] if name in BLIND else VIEW) + SWITCHES.get(name, []):
        values[option] = rule.state.get(option)
    for each in COEFFICIENTS:
        function = rule.state.get(each)
        if function is not None:
            values.update(_coefficient(group, each, closure(function)))
    return values


def _coefficient(group: _Group, name: str, schedule: Values) -> Values:
    if 'value' not in schedule:
        group.note(f'the schedule of {name} in alignment')
        return {}
    return {
        name: schedule['value'],
        name + '_start': schedule.get('start'),
        name + '_stop': schedule.get('stop'),
        name + '_cycle': schedule.get('cycle') or None,
        name + '_schedule_rate': schedule.get('schedule_rate'),
        name + '_schedule_type': schedule.get('schedule_type'),
    }


def _loss(loss: _Group) -> Values:
    options = loss.part('agg_func_kwargs')
    options.take('return_list')
    rates = closure(options.take('rate'))
    if 'loss_rate' not in rates:
        options.note('the schedule of the losses')
    return {
        name: rates.get(name)
        for name in (
            'loss_rate',
            'alignment_rate',
            'delay_epochs',
            'alternate_step_freq',
            'constant_rate',
        )
    }


def _learning_rates(group: _Group) -> Tuple[_Group, Optional[_Group]]:
    """Returns the learning-rate parts of the task loss and of the alignment loss.

    The second one is None if the two losses share a learning rate.
    """
    parts = group.take('lr_params')
    if called(group.take('func')) == 'combined_lr' and isinstance(parts, list) and len(parts) == 2:
        rate, alignment_rate = [
            _Group(f'learning_rate_params.lr_params[{i}]', part) for i, part in enumerate(parts)
        ]
        return rate, alignment_rate
    for key in (
        'boundary_step',
        'next_lr',
        'prev_lr',
        'target_lr',
        'num_batches_per_epoch',
        'warmup_epochs',
    ):
        group.take(key)
    return group, None


def _learning_rate(prefix: str, group: _Group) -> Values:
    func = group.take('func')
    schedule = closure(func)
    if 'learning_rate' in schedule:
        names = ('learning_rate', 'rescale_lr', 'constant_lr', 'warmup_epochs')
        values = {prefix + name: schedule.get(name) for name in names}
        if schedule.get('rescale_lr'):
            values['base_batch_size'] = schedule.get('base_batch_size')
        return values
    if called(func) == 'drop_learning_rate':
        # The file does not contain the number of earlier drops, which makes no difference.
        return {
            prefix + 'manual_lr': True,
            prefix + 'learning_rate': group.take('prev_lr'),
            prefix + 'drop': 1,
            prefix + 'boundary_step': group.take('boundary_step'),
        }
    if called(func) == 'warmup_learning_rate':
        return {
            prefix + 'manual_lr': True,
            prefix + 'learning_rate': group.take('target_lr'),
            prefix + 'drop': 0,
            prefix + 'warmup_epochs': group.take('warmup_epochs'),
        }
    raise ConfigError(
        "{}.func is {}, which is not a schedule of the paper's code".format(
            group.path, called(func) or 'missing'
        )
    )


def _optimizers(group: _Group) -> Values:
    classes, options = group.take('optimizer_class'), group.take('optimizer_kwargs')
    classes = classes if isinstance(classes, list) else [classes]
    options = options if isinstance(options, list) else [options]
    options = options + [{}] * (len(classes) - len(options))
    values: Values = {
        'grad_clip': group.take('clip'),
        'grad_clipping_value': group.take('clipping_value'),
        'grad_clipping_method': group.take('clipping_method'),
    }
    for which, cls, kwargs in zip(('', 'alignment_'), classes, options):
        attributes = _argument(cls, ATTRIBUTES)
        if is_call_of(cls, '_create_type') and attributes is not None:
            # A class that is defined in a function and adds noise to its base class.
            methods = attributes if isinstance(attributes, dict) else {}
            noise = closure(methods.get('__init__'))
            bases = _argument(cls, BASES)
            cls = next(iter(bases), None) if isinstance(bases, tuple) else None
            noisy = f'{"alignment" if which else "global"}_opt'
            values.update(
                {
                    'use_noisy_' + noisy: True,
                    f'noisy_{noisy}_distribution': noise.get('distribution'),
                    f'noisy_{noisy}_variance': noise.get('variance'),
                }
            )
        values[which + 'optimizer'] = _optimizer(
            group, cls, kwargs if isinstance(kwargs, dict) else {}
        )
    return values


def _optimizer(group: _Group, cls: object, options: Dict[str, object]) -> str:
    name = OPTIMIZERS.get(called(cls) or '')
    if name is None:
        raise ConfigError(
            'optimizer_params.optimizer_class is {}; the known ones are {}'.format(
                called(cls) or 'missing', ', '.join(OPTIMIZERS)
            )
        )
    if name == 'swats' and options.get('rectified_adam') is True:
        name = 'swrats'
    known: Dict[str, object] = {
        'include_global_step': True,
        'rectified_adam': name == 'swrats',
    }
    if name == 'momentum':
        known.update(momentum=0.9, use_nesterov=True)
    for option, value in options.items():
        if known.get(option) != value:
            group.note(f'{option}={shown(value)} of {called(cls)}')
    return name
