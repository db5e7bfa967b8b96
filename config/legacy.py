"""The authors' configuration files, read without executing any of them.

The released .pkl files are Python 2 pickles, by dill, of live objects: functions with their
closures, methods, instances. Here every object that a pickle asks to make becomes an Inert, which
only notes what was asked for. `settings` then finds in those notes what our Config has a name for.
Where things lie in such a file was learnt from the released code
(github.com/neuroailab/Neural-Alignment, params.py).
"""

import io
import pickle
import pickletools
import reprlib

from config.schema import ROWS, ConfigError, whole_steps

TRAIN_IMAGES = {'imagenet': 1281167, 'mnist': 60000}

RULES = {
    'Feedback': 'feedback',
    'Symmetric': 'symmetric',
    'Activation': 'activation',
    'Mirror': 'mirror',
    'Information': 'information',
    'Kolen_Pollack': 'kolen_pollack',
}
# What the losses of these rules do not look at: the options of "what the rule sees".
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

OPTIMIZERS = {
    'GradientDescentOptimizer': 'gd',
    'MomentumOptimizer': 'momentum',
    'AdagradOptimizer': 'adagrad',
    'RMSPropOptimizer': 'rmsprop',
    'AdamOptimizer': 'adam',
    'RAdamOptimizer': 'radam',
    'SWATSOptimizer': 'swats',
}

# Known keys that say where the authors ran, or repeat what another key says, or have one value
# here.
PASSED_OVER = {
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


class Inert:
    """Something that a pickle asks for: a name in a module, or what a call of such a thing would
    give. Nothing is called.

    name: 'module.name' of a thing asked for by name, else None. of, args: what would be called, and
    with what.
    state: what would be set on the result: {attribute: value}. items: what would be put into it.
    """

    __slots__ = ('name', 'of', 'args', 'state', 'items')

    def __init__(self, name=None, of=None, args=()):
        self.name, self.of, self.state, self.items = name, of, {}, []
        self.args = tuple(args) if isinstance(args, (list, tuple)) else ()

    def append(self, item):
        """Note what a list, or a set, of this would hold."""
        self.items.append(item)

    add = append

    def extend(self, items):
        """Note several of these."""
        self.items.extend(items)

    def __setitem__(self, key, value):
        self.items.append((key, value))

    def __repr__(self):
        return '<{}>'.format(
            self.name or (self.of.name if isinstance(self.of, Inert) and self.of.name else 'object')
        )


class _Keys(dict):
    """A dictionary that keeps only the entries whose key is text: hashing anything else that a file
    brings is not safe.
    """

    def __setitem__(self, key, value):
        if isinstance(key, str):
            super().__setitem__(key, value)


class _InertUnpickler(pickle._Unpickler):  # the pure-Python one: each operation can be replaced
    """Reads a pickle of any protocol into plain containers, scalars and Inert objects; executes
    nothing of it.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module, name):
        return Inert(f'{module}.{name}')

    def get_extension(self, code):
        self.append(Inert(f'extension {code}'))

    def persistent_load(self, pid):
        return Inert('outside the file')

    def _instantiate(self, of, args):
        self.append(Inert(of=of, args=args))

    def load_reduce(self):
        args, of = self.stack.pop(), self.stack.pop()
        if (
            _is_setattr(of)
            and isinstance(args, tuple)
            and len(args) == 3
            and isinstance(args[1], str)
        ):
            _set(args[0], {args[1]: args[2]})
        self.append(Inert(of=of, args=args))

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self):
        args, of = self.stack.pop(), self.stack.pop()
        self.append(Inert(of=of, args=args))

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self):
        kwargs, args, of = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.append(Inert(of=of, args=args))
        _set(self.stack[-1], kwargs)

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def load_build(self):
        state = self.stack.pop()
        for part in state if isinstance(state, tuple) else (state,):  # (attributes, slots)
            _set(self.stack[-1], part)

    dispatch[pickle.BUILD[0]] = load_build

    def load_empty_dictionary(self):
        self.append(_Keys())

    dispatch[pickle.EMPTY_DICT[0]] = load_empty_dictionary

    def load_dict(self):
        items = self.pop_mark()
        self.append(_Keys())
        for key, value in zip(items[::2], items[1::2]):
            self.stack[-1][key] = value

    dispatch[pickle.DICT[0]] = load_dict

    def load_empty_set(self):
        self.append(Inert('set'))

    dispatch[pickle.EMPTY_SET[0]] = load_empty_set

    def load_additems(self):
        items = self.pop_mark()
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].extend(items)

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_frozenset(self):
        items = self.pop_mark()
        self.append(Inert('frozenset'))
        self.stack[-1].extend(items)

    dispatch[pickle.FROZENSET[0]] = load_frozenset


def _is_setattr(thing):
    """Whether this is how dill 0.3.5 sets what a cell holds after making it: setattr, or
    getattr(dill, '_setattr', setattr).
    """
    if _is_call_of(thing, 'getattr'):
        return len(thing.args) > 1 and thing.args[1] == '_setattr'
    return isinstance(thing, Inert) and (thing.name or '').split('.')[-1] in ('setattr', '_setattr')


def _set(target, state):
    if isinstance(target, Inert) and isinstance(state, dict):
        target.state.update((name, value) for name, value in state.items() if isinstance(name, str))


def unpickle(content):
    """What a pickle (bytes) holds, with an Inert for every object. Raises ValueError if it is
    damaged.
    """
    try:
        for _ in pickletools.genops(
            content
        ):  # a truncated or garbled file is told from a whole one before it is read
            pass
        return _InertUnpickler(io.BytesIO(content), encoding='latin-1').load()
    except Exception as error:  # a damaged pickle can raise nearly anything; none of it is ours
        raise ValueError(str(error) or type(error).__name__)


def is_authors(document):
    """Whether what was read has the form of the authors' files."""
    params = document.get('params') if isinstance(document, dict) else None
    return isinstance(params, dict) and all(
        isinstance(params.get(group), dict) for group in PASSED_OVER
    )


def settings(document):
    """({name: value} of our settings, [what was not understood]) of the authors' params. Raises
    ConfigError.

    document: of `unpickle`, for which `is_authors` holds.
    """
    groups = {name: _Group(name, document['params'][name]) for name in PASSED_OVER}
    values = _data(groups)
    values.update(_model(groups['model_params']))
    values.update(_loss(groups['loss_params'], groups['train_params']))
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
            and ROWS[name].kind is not list
        ):
            raise ConfigError(f'{name} is {reprlib.repr(value)}, which is no value of it')
    others = [
        f'params[{name!r}]'
        for name in document['params']
        if name not in PASSED_OVER and name != 'skip_check'
    ]
    return effective, sorted(others + [note for group in groups.values() for note in group.rest()])


def _has_effect(name, values):
    """Whether the settings that this one needs are on; one without effect in the file has none
    here.
    """

    def is_on(need):
        setting = need.lstrip('!')
        return bool(values.get(setting, ROWS[setting].default)) != need.startswith('!')

    return not ROWS[name].needs or any(is_on(need) for need in ROWS[name].needs)


class _Group:
    """A dictionary of the file that knows which of its keys were read."""

    def __init__(self, path, content):
        self.path = path
        self._content = content if isinstance(content, dict) else {}
        self._unread = set(self._content) - set(PASSED_OVER.get(path, ()))
        self._parts, self._notes = [], []

    def take(self, key, default=None):
        self._unread.discard(key)
        return self._content.get(key, default)

    def part(self, key):
        """The dictionary under a key."""
        part = _Group(f'{self.path}.{key}', self.take(key))
        self._parts.append(part)
        return part

    def note(self, text):
        self._notes.append(f'{self.path}: {text}')

    def rest(self):
        """What was not understood, as a list of text."""
        unread = [f'{self.path}.{key}' for key in self._unread]
        return unread + self._notes + [note for part in self._parts for note in part.rest()]


def closure(function):
    """{name: value} of a function's free variables, as dill has them; {} for anything else."""
    if not _is_call_of(function, '_create_function') or len(function.args) < 5:
        return {}
    code, cells = function.args[0], function.args[4]
    names = code.args[-2] if isinstance(code, Inert) and len(code.args) > 1 else ()
    if not isinstance(names, tuple) or not isinstance(cells, tuple):
        return {}
    return {name: _content(cell) for name, cell in zip(names, cells) if isinstance(name, str)}


def _content(cell):
    if not isinstance(cell, Inert):
        return cell
    return cell.state.get('cell_contents', cell.args[0] if cell.args else None)


def called(thing):
    """The bare name of a function, class or instance's class; None where there is none."""
    if not isinstance(thing, Inert):
        return None
    if thing.name:
        return thing.name.split('.')[-1]
    if _is_call_of(thing, '_create_function'):
        return thing.args[2] if len(thing.args) > 2 and isinstance(thing.args[2], str) else None
    if _is_call_of(thing, '_reconstructor'):
        return called(thing.args[0]) if thing.args else None
    return called(thing.of)


def _is_call_of(thing, name):
    return (
        isinstance(thing, Inert)
        and isinstance(thing.of, Inert)
        and (thing.of.name or '').split('.')[-1] == name
    )


def _data(groups):
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
            'train_params.data_params.func is {}, and only ImageNet and MNIST are known'.format(
                called(provider) or 'missing'
            )
        )
    batch = source.take('batch_size')
    if type(batch) is not int or batch < 1:
        raise ConfigError(f'train_params.data_params.batch_size is {reprlib.repr(batch)}')
    per_epoch = max(1, TRAIN_IMAGES[dataset] // batch)
    # The preprocessing and the size of the images that the file names never count, as in the
    # original: --use_resnet_v2 and
    # --image_size decide.
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


def _epochs(steps, per_epoch):
    """The duration in epochs that is `steps` whole steps here, too."""
    if type(steps) is not int:
        return None
    exact = round(steps / per_epoch, 3)
    return exact if whole_steps(exact, per_epoch) == steps else (steps + 0.5) / per_epoch


def _model(group):
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
            'model_params holds neither fc nor a ResNet (func is {})'.format(func or 'missing')
        )
    if group.take('use_v2'):
        group.note('use_v2=True, which --use_resnet_v2 decides, as in the original')
    return {
        'model': f'resnet{size}',
        'tf_layers': group.take('tf_layers'),
        'bn_trainable': group.take('bn_trainable'),
        'regularize_weights_via_model': group.take('regularize_weights'),
    }


def _alignment(group):
    rule = group.take('alignment')
    if rule is None:
        return {'alignment': None}
    name = RULES.get(called(rule))
    if name is None:
        raise ConfigError(
            'model_params.alignment is {}, and the known rules are {}'.format(
                called(rule) or reprlib.repr(rule), ', '.join(RULES)
            )
        )
    values = {'alignment': name, 'update_forward': rule.state.get('update_forward') or None}
    for option in ([] if name in BLIND else VIEW) + SWITCHES.get(name, []):
        values[option] = rule.state.get(option)
    for coefficient in ('alpha', 'beta', 'gamma'):
        function = rule.state.get(coefficient)
        if function is not None:
            values.update(_coefficient(group, coefficient, closure(function)))
    return values


def _coefficient(group, name, schedule):
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


def _loss(loss, train):
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


def _learning_rates(group):
    """The learning-rate parts of the task loss and of the alignment loss; the second is None where
    they share one.
    """
    parts = group.take('lr_params')
    if called(group.take('func')) == 'combined_lr' and isinstance(parts, list) and len(parts) == 2:
        return [
            _Group(f'learning_rate_params.lr_params[{i}]', part) for i, part in enumerate(parts)
        ]
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


def _learning_rate(prefix, group):
    func = group.take('func')
    schedule = closure(func)
    if 'learning_rate' in schedule:
        names = ('learning_rate', 'rescale_lr', 'constant_lr', 'warmup_epochs')
        return dict(
            {prefix + name: schedule.get(name) for name in names},
            **(
                {'base_batch_size': schedule.get('base_batch_size')}
                if schedule.get('rescale_lr')
                else {}
            ),
        )
    if (
        called(func) == 'drop_learning_rate'
    ):  # how many drops came before is not in the file, and makes no difference
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
        "{}.func is {}, and no schedule of the paper's code".format(
            group.path, called(func) or 'missing'
        )
    )


def _optimizers(group):
    classes, options = group.take('optimizer_class'), group.take('optimizer_kwargs')
    classes = classes if isinstance(classes, list) else [classes]
    options = options if isinstance(options, list) else [options]
    options += [{}] * (len(classes) - len(options))
    values = {
        'grad_clip': group.take('clip'),
        'grad_clipping_value': group.take('clipping_value'),
        'grad_clipping_method': group.take('clipping_method'),
    }
    for which, cls, kwargs in zip(('', 'alignment_'), classes, options):
        noise = {}
        if (
            _is_call_of(cls, '_create_type') and len(cls.args) > 3
        ):  # a class made in a function: it adds noise to its base
            methods = cls.args[3] if isinstance(cls.args[3], dict) else {}
            noise = closure(methods.get('__init__'))
            cls = next(iter(cls.args[2]), None) if isinstance(cls.args[2], tuple) else None
            noisy = '{}_opt'.format('alignment' if which else 'global')
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


def _optimizer(group, cls, options):
    name = OPTIMIZERS.get(called(cls))
    if name is None:
        raise ConfigError(
            'optimizer_params.optimizer_class is {}, and the known ones are {}'.format(
                called(cls) or 'missing', ', '.join(OPTIMIZERS)
            )
        )
    if name == 'swats' and options.get('rectified_adam') is True:
        name = 'swrats'
    fixed = {'momentum': {'momentum': 0.9, 'use_nesterov': True}}.get(name, {})
    known = dict(fixed, include_global_step=True, rectified_adam=name == 'swrats')
    for option, value in options.items():
        if known.get(option) != value:
            group.note(f'{option}={reprlib.repr(value)} of {called(cls)}')
    return name
