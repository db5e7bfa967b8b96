"""An experiment made of a user's own functions, in the params dictionary of tfutils.

The functions define the model, data, losses, learning rate, optimiser and validations. Their
arguments and results follow the convention of tfutils:

    data(batch_size=n, ...)                        -> inputs, {name: tensor [batch, ...]}
                                                      (or a tf.data.Dataset of such dictionaries)
    model(inputs=inputs, train=True, seed=0, ...)  -> outputs, a dictionary of plain data for the
                                                      record
    loss_func(outputs, *[inputs[name] for name in pred_targets], ...)
                                                      (by keyword if it has the parameters logits
                                                      and labels)
    agg_func(loss, ...)                            -> a scalar
    learning rate(global_step=step, ...)           -> a scalar
    optimizer(learning_rate=rate, ...)             -> an object with compute_gradients and
                                                      apply_gradients
    targets(inputs, outputs, ...)                  -> {name: tensor}, of a step or of a validation
    online_agg_func(so_far, results, index)        -> so_far, including the results of this batch
    agg_func(so_far)                               -> the results of the validation
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
from training.output import hidden
from training.trainable import Plan, Step, Trainable
from training.types import Aggregate, Function, Gather, MakeOptimizer, Results
from training.validation import reading

# The names that each group of the dictionary may contain besides the arguments of its functions,
# with the defaults of tfutils.
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
# Names that tfutils reads itself; a model function only receives those that it has parameters for.
MODEL = ('devices', 'num_gpus', 'prefix', 'model_prefix', 'trainable_scopes')
RESERVED = ('loss', 'learning_rate', 'optimizer', '__grads__')  # in the results of a step
OLD_NAMES = {'targets': 'pred_targets', 'loss_per_case_func': 'loss_func'}  # in loss_params

Group = Document  # a group of the dictionary: {name: value or function}
Groups = Dict[str, Group]
Tensors = Dict[str, tf.Tensor]
Pairs = List[Tuple[tf.Tensor, tf.Variable]]  # gradients, each with its variable


class ClipOptimizer:
    """An optimiser that clips the gradients before it applies them, like the one in tfutils.

    Args:
        optimizer_class: The class of the optimiser. It is called with `keywords`.
        clip: Whether to clip.
        clipping_method: A key of optimizers.CLIPPINGS.
        clipping_value: The bound.
        optimizer_kwargs: More keyword arguments of the class.
        **keywords: Keyword arguments of the class.
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
        """Returns [(gradient, variable)]. The gradients are not clipped yet."""
        return self._optimizer.compute_gradients(loss, var_list=var_list)

    def apply_gradients(
        self, gradients_and_variables: Pairs, global_step: Optional[tf.Variable] = None
    ) -> tf.Operation:
        """Returns the operation that clips the gradients and updates the variables."""
        pairs = gradients_and_variables
        if self._clip:
            gradients, variables = zip(*pairs)
            pairs = list(zip(optimizers.clip(gradients, *self._clip), variables))
        return self._optimizer.apply_gradients(pairs, global_step=global_step)

    def variables(self) -> List[tf.Variable]:
        """Returns the slots."""
        return self._optimizer.variables()


def mean_and_reg_loss(loss: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the losses per image plus all tf.GraphKeys.REGULARIZATION_LOSSES."""
    return tf.add_n([tf.reduce_mean(loss)] + tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES))


def append_and_return(
    so_far: Optional[List[Document]], results: Document, step: int
) -> List[Document]:
    """The default online_agg_func of tfutils: returns a list of the results of all batches."""
    return (so_far or []) + [results]


def identity_func(results: object) -> Document:
    """The default agg_func of tfutils: returns its argument, or {'result': ...} if not a dict."""
    return results if isinstance(results, dict) else {'result': results}


class FunctionExperiment(Trainable):
    """The graph for a params dictionary of functions; training.loop.Run trains it.

    The gradients, losses and targets of a step are computed from the variables before its update.

    Args:
        params: {'model_params': ..., 'save_params': ..., ...} with every group that is used.
        device: A device of training/devices/.
        training: Whether to build the training step; False builds only the validations.

    Raises:
        ConfigError: The dictionary is not valid.
    """

    def __init__(self, params: Groups, device: Device, training: bool = True) -> None:
        self._save = checked(params, 'save_params', SAVE)
        self._train = checked(params, 'train_params', TRAIN) if training else {}
        self._model = dict(params['model_params'])
        self.device = device
        self.roles = {}
        # What is recorded: the dictionary, and the description that the model returns.
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
        """What a run does, and at which steps."""
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
        """Does one training step.

        Args:
            session: The session of the graph.
            most: Not used: a call always does one step.

        Returns:
            A list with one dictionary, {name: value}: the loss, the learning rate and the targets
            before the update.
        """
        del most
        step = self.training_step
        loop = (self._train['train_loop'] or {}).get('func')
        if loop is None:
            return [session.run([step.train_op, step.scalars])[1]]
        # A loop expects '__grads__' to accumulate gradients; the device has done so already.
        operations = {
            'optimizer': step.train_op,
            '__grads__': step.initializer,
        }
        results = loop(session, [dict(step.scalars, **operations)], num_minibatches=1)[0]
        return [{name: value for name, value in results.items() if name not in operations}]

    def validate(
        self,
        session: tf.Session,
        between: Callable[[], None] = lambda: None,
        in_detail: bool = False,
    ) -> Results:
        """Runs every validation over its number of batches.

        Args:
            session: The session of the graph.
            between: Called before each batch.
            in_detail: Not used: the functions of a script decide what is recorded.

        Returns:
            {target: results}.
        """
        del in_detail
        return {target: self._validate(session, target, between) for target in self._validations}

    def find_damage(self, step: int, steps: int, in_files: bool) -> Optional[str]:
        """Returns None: it is not known which files the functions read."""
        del step, steps, in_files
        return None

    def summary(self, results: Results) -> str:
        """Returns one line with the numbers among the results: 'topn: top1 0.9710, loss 0.1000'."""
        return '; '.join(
            f'{target}: '
            + (
                ', '.join(
                    f'{name} {float(value):.4f}'
                    for name, value in found.items()
                    if _is_number(value)
                )
                or 'done'
            )
            for target, found in results.items()
        )

    def warnings(self, results: Results) -> List[str]:
        """Returns an empty list: the meaning of a user's own results is not known."""
        del results
        return []

    def _validate(self, session: tf.Session, target: str, between: Callable[[], None]) -> Document:
        validation, so_far = self._validations[target], None
        for index in tqdm(
            range(validation.steps), desc=target, unit='batch', leave=False, disable=hidden()
        ):
            between()
            with reading(f'validation {target}', self.plan.source):
                batch = validation.loop(session, validation.targets)
            so_far = validation.online_agg_func(so_far, batch, index)
        return validation.agg_func(so_far)

    def _build_step(self, params: Groups) -> Step:
        if self._train['include_global_step']:
            raise ConfigError(
                'train_params: include_global_step is not supported; leave it out, and use an '
                'optimiser that does not need it'
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
            del part  # the functions of a script have no such parameter
            before = set(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
            outputs = self._outputs(batch, train=True)
            loss = loss_of(batch, outputs, params.get('loss_params'))
            if isinstance(loss, (list, tuple)) or loss.shape.ndims:
                raise ConfigError(f'loss_params: agg_func must return one number, not {loss}')
            targets = dict(self._step_targets(batch, outputs), loss=loss)
            pairs = optimizer.compute_gradients(loss, var_list=self._trainable())
            updates = [op for op in tf.get_collection(tf.GraphKeys.UPDATE_OPS) if op not in before]
            return (targets, {v.op.name: g for g, v in pairs if g is not None}), updates

        (targets, gradients), updates = self.device.mean(replica, inputs)
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
            raise ConfigError(f'train_params: targets must not be named {", ".join(taken)}')
        if self.device.minibatches > 1:  # only numbers can be averaged over the parts of a batch
            targets = {
                name: tf.reduce_mean(tf.cast(tensor, tf.float32))
                for name, tensor in targets.items()
            }
        return targets

    def _outputs(self, inputs: Tensors, train: bool) -> tf.Tensor:
        """Calls the model function; returns its outputs and keeps its description to record it."""
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
                f'model_params: {_named(function)} must return (outputs, dictionary for the record)'
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
            raise ConfigError(f'model_params: trainable_scopes={scopes} contain no variable')
        return variables

    def _build_validation(self, target: str, params: Groups) -> 'Validation':
        given = checked(params['validation_params'], target, VALIDATION, 'validation_params.')
        if given['num_steps'] is None:
            raise ConfigError(
                f'validation_params.{target}: num_steps, the number of batches, is missing'
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
    """Context manager: keeps only the regularisation losses of the network built within it.

    Afterwards, tf.GraphKeys.REGULARIZATION_LOSSES does not contain the losses of earlier networks,
    unless no loss was added: losses of variables are created once, together with the variables, and
    belong to every network that shares them.
    """
    collection = tf.get_collection_ref(tf.GraphKeys.REGULARIZATION_LOSSES)
    earlier = collection[:]
    del collection[:]
    yield
    if not collection:
        collection.extend(earlier)


class Validation(NamedTuple):
    """A validation defined by a user's functions.

    Attributes:
        targets: The tensors to evaluate, {name: tensor}.
        steps: The number of batches.
        loop: Function of (session, targets) that returns the results of a batch.
        online_agg_func: Function of (its last return value or None, results of a batch, index of
            the batch) that returns the results so far.
        agg_func: Function of (last return value of online_agg_func) that returns the results.
    """

    targets: Tensors
    steps: int
    loop: Callable[[tf.Session, Tensors], Document]
    online_agg_func: Gather
    agg_func: Aggregate


def checked(params: Groups, group: str, defaults: Group, where: str = '') -> Group:
    """Returns a group of the dictionary, completed with its defaults.

    Args:
        params: The dictionary.
        group: The name of the group.
        defaults: The names that the group may contain, with their defaults.
        where: The path of the group, for messages.

    Raises:
        ConfigError: The group contains another name, or queue_params.
    """
    given = params.get(group) or {}
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise ConfigError(
            f'{where}{group} has no {", ".join(unknown)}; choose from {", ".join(sorted(defaults))}'
        )
    if given.get('queue_params'):
        raise ConfigError(
            f'{where}{group}: queue_params, of tfutils before 2018, is not supported; let '
            'data_params.func return a tf.data.Dataset'
        )
    return dict(defaults, **given)


def read(data_params: Optional[Group], where: str) -> Tensors:
    """Calls a data function and returns its inputs.

    Args:
        data_params: 'func' and its arguments.
        where: The path of the group, for messages.

    Returns:
        {name: tensor [batch, ...]}.

    Raises:
        ConfigError: There is no function, or it does not return a dictionary or tf.data.Dataset.
    """
    if not data_params or not callable(data_params.get('func')):
        raise ConfigError(f'{where}: data_params.func must be the function that returns the data')
    inputs = data_params['func'](
        **{name: value for name, value in data_params.items() if name != 'func'}
    )
    if isinstance(inputs, tf.data.Dataset):
        inputs = tf.data.make_one_shot_iterator(inputs).get_next()
    if not isinstance(inputs, dict):
        raise ConfigError(
            f'{where}: {_named(data_params["func"])} must return a dictionary of tensors, not '
            f'{type(inputs).__name__}'
        )
    return inputs


def loss_of(inputs: Tensors, outputs: tf.Tensor, loss_params: Optional[Group]) -> tf.Tensor:
    """Returns the loss of a batch: agg_func(loss_func(outputs, the inputs named in pred_targets)).

    Args:
        inputs: The inputs, {name: tensor [batch, ...]}.
        outputs: The outputs of the model.
        loss_params: The group of that name. None means the cross-entropy of the input 'labels'.

    Raises:
        ConfigError: The group is not valid, or the inputs lack a target.
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
            f'loss_params: the data contain no {", ".join(missing)}; they contain '
            f'{", ".join(sorted(inputs))}'
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
    """Calls a function of targets and returns {name: tensor}."""
    return targets['func'](
        inputs, outputs, **{name: value for name, value in targets.items() if name != 'func'}
    )


def _call(
    arguments: Group, default: Function, keys: Sequence[str] = ('func',), **more: tf.Tensor
) -> tf.Tensor:
    """Calls the function that a group names, or the default, with the rest of the group."""
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
