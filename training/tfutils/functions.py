"""An experiment of a user's own functions, in the params dictionary of tfutils: model, data,
losses, rates and validations.

What each function is called with, and what it gives, is tfutils' convention:

    data(batch_size=n, ...)                        -> inputs, {name: tensor [batch, ...]}
                                                      (or a tf.data.Dataset of such)
    model(inputs=inputs, train=True, seed=0, ...)  -> outputs, a dictionary of plain data for the
                                                      record
    loss_func(outputs, *[inputs[name] for name in pred_targets], ...)
                                                      (by name where it takes logits and labels)
    agg_func(loss, ...)                            -> a scalar
    learning rate(global_step=step, ...)           -> a scalar
    optimizer(learning_rate=rate, ...)             -> what has compute_gradients and apply_gradients
    targets(inputs, outputs, ...)                  -> {name: tensor}, of a step or of a validation
    online_agg_func(so_far, results of a batch, index) and agg_func(of all batches)
"""

import contextlib
import inspect
import math
from typing import (
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    SupportsFloat,
    Tuple,
)

import tensorflow.compat.v1 as tf
from tqdm import tqdm

from config.schema import ConfigError
from database.types import Document
from training import optimizers
from training.devices import Device
from training.devices.device import Outcome, Part
from training.trainable import Plan, Step, Trainable
from training.types import Aggregate, Function, Gather, MakeOptimizer, Results
from training.validation import reading

# The names that each part of the dictionary may have beside its functions' own arguments, with
# tfutils' defaults.
SAVE = dict(
    host='localhost',
    port=None,
    dbname=None,
    collname=None,
    exp_id=None,
    do_save=True,
    save_initial_filters=True,
    save_metrics_freq=100,
    save_valid_freq=3000,
    save_filters_freq=30000,
    cache_filters_freq=3000,
    cache_max_num=6,
    cache_dir=None,
    save_to_gfs=(),
)
LOAD = dict(
    host=None,
    port=None,
    dbname=None,
    collname=None,
    exp_id=None,
    do_restore=True,
    query=None,
    load_query=None,
    from_ckpt=None,
    to_restore=None,
    load_param_dict=None,
    restore_global_step=True,
    cache_dir=None,
)
TRAIN = dict(
    data_params=None,
    targets=None,
    num_steps=None,
    thres_loss=100,
    validate_first=True,
    minibatch_size=None,
    train_loop=None,
    queue_params=None,
    include_global_step=False,
)
LOSS = dict(
    pred_targets=('labels',),
    loss_func=None,
    loss_func_kwargs=None,
    agg_func=None,
    agg_func_kwargs=None,
)
VALIDATION = dict(
    data_params=None,
    targets=None,
    num_steps=None,
    agg_func=None,
    online_agg_func=None,
    valid_loop=None,
    queue_params=None,
)
# What tfutils knows of a model itself; a model function gets it only where it asks for it.
MODEL = ('devices', 'num_gpus', 'prefix', 'model_prefix', 'trainable_scopes')
RESERVED = ('loss', 'learning_rate', 'optimizer', '__grads__')  # of the results of a step
OLD_NAMES = {'targets': 'pred_targets', 'loss_per_case_func': 'loss_func'}  # of loss_params

Group = Document  # of the dictionary: {name: value, or a function}
Groups = Dict[str, Group]
Tensors = Dict[str, tf.Tensor]
Pairs = List[Tuple[tf.Tensor, tf.Variable]]  # gradients, each with its variable


class ClipOptimizer:
    """An optimiser whose gradients are clipped before they are applied, as tfutils' own.

    optimizer_class: called with the keywords that are left. clip: whether to clip. clipping_method:
    a key of optimizers.CLIPPINGS. clipping_value: the bound. optimizer_kwargs: more keywords of the
    class.
    """

    def __init__(
        self,
        optimizer_class: MakeOptimizer,
        clip: bool = True,
        clipping_method: str = 'value',
        clipping_value: float = 1.0,
        optimizer_kwargs: Optional[Group] = None,
        **keywords: object,
    ) -> None:
        self._optimizer = optimizer_class(**dict(keywords, **optimizer_kwargs or {}))
        self._clip = (clipping_method, clipping_value) if clip else None

    def compute_gradients(
        self, loss: tf.Tensor, var_list: Optional[Sequence[tf.Variable]] = None
    ) -> Pairs:
        """[(gradient, variable)], not clipped yet."""
        return self._optimizer.compute_gradients(loss, var_list=var_list)

    def apply_gradients(
        self, gradients_and_variables: Pairs, global_step: Optional[tf.Variable] = None
    ) -> tf.Operation:
        """The operation that clips them and updates the variables."""
        pairs = gradients_and_variables
        if self._clip:
            gradients, variables = zip(*pairs)
            pairs = list(zip(optimizers.clip(gradients, *self._clip), variables))
        return self._optimizer.apply_gradients(pairs, global_step=global_step)

    def variables(self) -> List[tf.Variable]:
        """The slots."""
        return self._optimizer.variables()


def mean_and_reg_loss(loss: tf.Tensor) -> tf.Tensor:
    """The mean of a loss per case, and every loss in tf.GraphKeys.REGULARIZATION_LOSSES."""
    return tf.add_n([tf.reduce_mean(loss)] + tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES))


def append_and_return(
    so_far: Optional[List[Document]], results: Document, step: int
) -> List[Document]:
    """tfutils' default online_agg_func: a list of the results of all batches."""
    return (so_far or []) + [results]


def identity_func(results: object) -> Document:
    """tfutils' default agg_func: what it gets, as {'result': ...} where that is no dictionary."""
    return results if isinstance(results, dict) else {'result': results}


class FunctionExperiment(Trainable):
    """The graph of a params dictionary that holds functions; training.loop.Run trains it.

    params: {'model_params': ..., 'save_params': ..., ...} with every group that is used. device: of
    training/devices/.
    training: False builds the validations alone. Raises ConfigError for what cannot be.

    Gradients, losses and targets of a step are those of the variables before it.
    """

    def __init__(self, params: Groups, device: Device, training: bool = True) -> None:
        self._save = checked(params, 'save_params', SAVE)
        self._train = checked(params, 'train_params', TRAIN) if training else {}
        self._model = dict(params['model_params'])
        self._device = device
        self.roles = {}
        # What a record tells: the dictionary, and what the model says of itself.
        self.described: Groups = dict(params)
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(self._model.get('seed', 0))
            self.global_step = tf.train.get_or_create_global_step()
            with tf.variable_scope('', reuse=tf.AUTO_REUSE):
                self.step = self._build_step(params) if training else None
                self._validations = {
                    target: self._build_validation(target, params)
                    for target in params.get('validation_params') or {}
                }
            self.initializer = tf.group(
                tf.global_variables_initializer(),
                tf.local_variables_initializer(),
                tf.tables_initializer(),
            )
            self.variables = tf.global_variables()
            self.saver = tf.train.Saver(self.variables, max_to_keep=None)
        self.graph.finalize()

    @property
    def plan(self) -> Plan:
        """What a run does when."""
        save, train = self._save, self._train
        return Plan(
            steps=math.inf if train.get('num_steps') is None else train['num_steps'],
            batch_size=train['data_params'].get('batch_size', 1) if train else 0,
            validate_first=bool(train.get('validate_first') and self._validations),
            validate_every=save['save_valid_freq'] if self._validations else None,
            weights_every=save['save_filters_freq'],
            recent_every=save['cache_filters_freq'],
            record_every=save['save_metrics_freq'],
            initial_weights=save['save_initial_filters'],
            keep=save['cache_max_num'],
            save_to_gfs=tuple(save['save_to_gfs']),
            known=tuple(save['save_to_gfs']),
            limits={'loss': train['thres_loss']} if train else {},
            skips=0,
            source='the files of data_params',
        )

    def run_steps(self, session: tf.Session, most: int) -> List[Document]:
        """One training step: [{name: value} of the loss, the learning rate and the targets, before
        its update].
        """
        del most
        step = self.training_step
        loop = (self._train['train_loop'] or {}).get('func')
        if loop is None:
            return [session.run([step.train_op, step.scalars])[1]]
        operations = {
            'optimizer': step.train_op,
            '__grads__': step.initializer,
        }  # nothing is left to accumulate
        results = loop(session, [dict(step.scalars, **operations)], num_minibatches=1)[0]
        return [{name: value for name, value in results.items() if name not in operations}]

    def validate(self, session: tf.Session, between: Callable[[], None] = lambda: None) -> Results:
        """{target: results} of every validation, each over its number of batches. between: is
        called before each batch.
        """
        return {target: self._validate(session, target, between) for target in self._validations}

    def find_damage(self, step: int, steps: int, in_files: bool) -> Optional[str]:
        """None: what the functions of a dictionary read is not known."""
        del step, steps, in_files
        return None

    def summary(self, results: Results) -> str:
        """One line of the numbers in what `validate` gave: 'topn: top1 0.9710, loss 0.1000'."""
        return '; '.join(
            '{}: {}'.format(
                target,
                ', '.join(
                    f'{name} {float(value):.4f}'
                    for name, value in found.items()
                    if _is_number(value)
                )
                or 'done',
            )
            for target, found in results.items()
        )

    def warnings(self, results: Results) -> List[str]:
        """No sentence: what a user's own numbers mean is not known."""
        del results
        return []

    def _validate(self, session: tf.Session, target: str, between: Callable[[], None]) -> Document:
        validation, so_far = self._validations[target], None
        for index in tqdm(
            range(validation.steps), desc=target, unit='batch', leave=False, disable=None
        ):
            between()
            with reading(f'validation {target}', self.plan.source):
                batch = validation.loop(session, validation.targets)
            so_far = validation.online_agg_func(so_far, batch, index)
        return validation.agg_func(so_far)

    def _build_step(self, params: Groups) -> Step:
        if self._train['include_global_step']:
            raise ConfigError(
                'train_params: include_global_step is not supported; let optimizer_params make '
                'the optimiser without it'
            )
        inputs = read(self._train['data_params'], 'train_params')
        step = self.global_step.read_value()
        rate = _call(
            params.get('learning_rate_params') or {}, tf.train.exponential_decay, global_step=step
        )
        optimizer = _call(
            dict(
                params.get('optimizer_params')
                or dict(optimizer_class=tf.train.MomentumOptimizer, momentum=0.9)
            ),
            ClipOptimizer,
            ('optimizer', 'func'),
            learning_rate=rate,
        )

        def replica(batch: Tensors, part: Part) -> Outcome[Tuple[Tensors, Tensors]]:
            del part  # a script's functions do not ask for it
            before = set(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
            outputs = self._outputs(batch, train=True)
            loss = loss_of(batch, outputs, params.get('loss_params'))
            if isinstance(loss, (list, tuple)) or loss.shape.ndims:
                raise ConfigError(f'loss_params: agg_func gives {loss}, and must give one number')
            targets = dict(self._step_targets(batch, outputs), loss=loss)
            pairs = optimizer.compute_gradients(loss, var_list=self._trainable())
            updates = [op for op in tf.get_collection(tf.GraphKeys.UPDATE_OPS) if op not in before]
            return (targets, {v.op.name: g for g, v in pairs if g is not None}), updates

        (targets, gradients), updates = self._device.mean(replica, inputs)
        scalars = {name: tf.identity(targets[name]) for name in sorted(targets)}
        scalars['learning_rate'] = tf.identity(rate)
        trained = [v for v in tf.trainable_variables() if v.op.name in gradients]
        pairs = [(gradients[v.op.name], v) for v in trained]
        with tf.control_dependencies([g for g, _ in pairs] + list(scalars.values()) + updates):
            update = optimizer.apply_gradients(pairs)
        with tf.control_dependencies([update]):
            train_op = self.global_step.assign_add(1, read_value=False)
        return Step(tf.no_op(), train_op, scalars, steps=None)

    def _step_targets(self, inputs: Tensors, outputs: tf.Tensor) -> Tensors:
        targets = (
            _targets(self._train['targets'], inputs, outputs) if self._train['targets'] else {}
        )
        taken = sorted(set(RESERVED) & set(targets))
        if taken:
            raise ConfigError('train_params: targets may not be named {}'.format(', '.join(taken)))
        if self._device.minibatches > 1:  # only a number has a mean over the parts of a batch
            targets = {
                name: tf.reduce_mean(tf.cast(tensor, tf.float32))
                for name, tensor in targets.items()
            }
        return targets

    def _outputs(self, inputs: Tensors, train: bool) -> tf.Tensor:
        """What the model function gives; what it says of itself goes into the record."""
        function, arguments = (
            self._model['func'],
            {n: v for n, v in self._model.items() if n not in ('func', 'train')},
        )
        wanted = inspect.signature(function).parameters
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in wanted.values()):
            arguments = {
                name: value
                for name, value in arguments.items()
                if name in wanted or name not in MODEL
            }
        with _own_regularization_losses():
            given = function(inputs=inputs, train=train, **dict({'seed': 0}, **arguments))
        if not isinstance(given, tuple) or len(given) != 2:
            raise ConfigError(
                f'model_params: {_named(function)} must give (outputs, a dictionary for the record)'
            )
        self.described['model_params'] = dict(
            {'seed': 0}, **self._model, cfg_final=given[1], train=bool(self._train)
        )
        return given[0]

    def _trainable(self) -> List[tf.Variable]:
        scopes = self._model.get('trainable_scopes')
        scopes = [scopes] if isinstance(scopes, str) else scopes
        variables = [
            v
            for v in tf.trainable_variables()
            if scopes is None
            or any(v.op.name.startswith(scope.rstrip('/') + '/') for scope in scopes)
        ]
        if not variables:
            raise ConfigError(f'model_params: trainable_scopes={scopes} holds no variable')
        return variables

    def _build_validation(self, target: str, params: Groups) -> 'Validation':
        given = checked(params['validation_params'], target, VALIDATION, 'validation_params.')
        if given['num_steps'] is None:
            raise ConfigError(
                f'validation_params.{target}: num_steps is needed, the number of batches'
            )
        inputs = read(given['data_params'], 'validation_params.' + target)
        outputs = self._outputs(inputs, train=False)
        targets = (
            _targets(given['targets'], inputs, outputs)
            if given['targets']
            else {'loss': loss_of(inputs, outputs, params.get('loss_params'))}
        )
        return Validation(
            targets,
            given['num_steps'],
            (given['valid_loop'] or {}).get('func') or tf.Session.run,
            given['online_agg_func'] or append_and_return,
            given['agg_func'] or identity_func,
        )


@contextlib.contextmanager
def _own_regularization_losses() -> Iterator[None]:
    """Afterwards tf.GraphKeys.REGULARIZATION_LOSSES holds those of the network built meanwhile, and
    not another's as well.

    Those of variables are made with the variables, once, and are those of each network that shares
    them.
    """
    collection = tf.get_collection_ref(tf.GraphKeys.REGULARIZATION_LOSSES)
    earlier = collection[:]
    del collection[:]
    yield
    if not collection:
        collection.extend(earlier)


class Validation(NamedTuple):
    """A validation of a user's own: tensors, how many batches, and what is called with them.

    Attributes:
        loop: (session, targets) -> the results of a batch.
        online_agg_func: (what it gave before or None, results of a batch, its index) -> so far.
        agg_func: (what online_agg_func gave at last) -> the results.
    """

    targets: Tensors
    steps: int
    loop: Callable[[tf.Session, Tensors], Document]
    online_agg_func: Gather
    agg_func: Aggregate


def checked(params: Groups, group: str, defaults: Group, where: str = '') -> Group:
    """A group of the dictionary with its defaults. Raises ConfigError for a name that it does not
    have.
    """
    given = params.get(group) or {}
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise ConfigError(
            '{}{} has no {}; it has {}'.format(
                where, group, ', '.join(unknown), ', '.join(sorted(defaults))
            )
        )
    if given.get('queue_params'):
        raise ConfigError(
            f'{where}{group}: queue_params are of tfutils before 2018; let data_params.func give '
            'tensors of a tf.data.Dataset'
        )
    return dict(defaults, **given)


def read(data_params: Optional[Group], where: str) -> Tensors:
    """The inputs of a data function: {name: tensor [batch, ...]}. Raises ConfigError."""
    if not data_params or not callable(data_params.get('func')):
        raise ConfigError(f'{where}: data_params.func must be the function that gives the images')
    inputs = data_params['func'](
        **{name: value for name, value in data_params.items() if name != 'func'}
    )
    if isinstance(inputs, tf.data.Dataset):
        inputs = tf.data.make_one_shot_iterator(inputs).get_next()
    if not isinstance(inputs, dict):
        raise ConfigError(
            '{}: {} must give a dictionary of tensors, not {}'.format(
                where, _named(data_params['func']), type(inputs).__name__
            )
        )
    return inputs


def loss_of(inputs: Tensors, outputs: tf.Tensor, loss_params: Optional[Group]) -> tf.Tensor:
    """The loss of a batch: agg_func(loss_func(outputs, what is to be predicted)). Raises
    ConfigError.
    """
    given = {OLD_NAMES.get(name, name): value for name, value in (loss_params or {}).items()}
    given = checked({'loss_params': given}, 'loss_params', LOSS)
    names = (
        [given['pred_targets']]
        if isinstance(given['pred_targets'], str)
        else list(given['pred_targets'])
    )
    missing = [name for name in names if name not in inputs]
    if missing:
        raise ConfigError(
            'loss_params: the data have no {}; they have {}'.format(
                ', '.join(missing), ', '.join(sorted(inputs))
            )
        )
    function = given['loss_func'] or tf.nn.sparse_softmax_cross_entropy_with_logits
    labels, more = [inputs[name] for name in names], given['loss_func_kwargs'] or {}
    if len(labels) == 1 and {'logits', 'labels'} <= set(inspect.signature(function).parameters):
        loss = function(logits=outputs, labels=labels[0], **more)
    else:
        loss = function(outputs, *labels, **more)
    aggregate, more = given['agg_func'] or mean_and_reg_loss, dict(given['agg_func_kwargs'] or {})
    if 'which_device' in inspect.signature(aggregate).parameters:
        more['which_device'] = 0
    return aggregate(loss, **more)


def _targets(targets: Group, inputs: Tensors, outputs: tf.Tensor) -> Tensors:
    """{name: tensor} of a function of targets."""
    return targets['func'](
        inputs, outputs, **{name: value for name, value in targets.items() if name != 'func'}
    )


def _call(
    arguments: Group, default: Function, keys: Sequence[str] = ('func',), **more: tf.Tensor
) -> tf.Tensor:
    """Call the function that a group names, or the default, with the rest of the group."""
    functions = [arguments[key] for key in keys if arguments.get(key)]
    rest = {name: value for name, value in arguments.items() if name not in keys}
    return (functions[0] if functions else default)(**dict(rest, **more))


def _is_number(value: SupportsFloat) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _named(function: Function) -> str:
    return getattr(function, '__name__', repr(function))
