"""Builds the graph of an experiment from its data, model, rule, optimisers and device.

The graph holds the operations of a training step and of a validation.
"""

import functools
from typing import (
    Callable,
    Dict,
    FrozenSet,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
)

import tensorflow.compat.v1 as tf

import data
from alignment import measures
from alignment.gradients import Scalar
from alignment.rules import RULES, Rule
from alignment.view import ViewOptions
from config.schema import Config, ConfigError, whole_steps
from database import layout
from database.types import Document
from models import NETWORKS, NetworkOptions
from models.layers import Layers, Replicas, StockLayers
from models.roles import Role, Slot
from training import answers, freezing, losses, metrics, optimizers, runtime, schedules, validation
from training.choices import check
from training.devices.device import Batch, Counted, Device, Part, Scalars
from training.trainable import Plan, Step, Trainable
from training.types import Results

TARGET = layout.TARGET
RECORD_EVERY = 100  # steps between two records without a validation
EXPLODED = 1e12  # a training whose loss is beyond this has diverged

Value = TypeVar('Value')
Gradients = List[Tuple[tf.Tensor, tf.Variable]]


class Schedules(NamedTuple):
    """Everything that depends on the step counter only.

    Attributes:
        step: Number of updates done before this one, read once, int64 scalar.
        coefficients: Coefficients of the rule, {name: float32 scalar}.
        rule: The rule with these coefficients; None for backpropagation.
        loss_rates: Weights of the task loss and of the alignment loss, float32 scalars.
        learning_rates: Learning rate of each optimiser, float32 scalars.
    """

    step: tf.Tensor
    coefficients: Dict[str, tf.Tensor]
    rule: Optional[Rule]
    loss_rates: Tuple[tf.Tensor, tf.Tensor]
    learning_rates: List[tf.Tensor]


class Outcome(NamedTuple):
    """What a replica computes from its images.

    Attributes:
        losses: The losses.
        gradients: The gradients of each objective, one for each trainable variable; None for a
            variable that the objective does not depend on.
    """

    losses: losses.Losses
    gradients: List[List[Optional[tf.Tensor]]]


class Updated(NamedTuple):
    """The variables of one optimiser.

    Attributes:
        gradients: (gradient, variable) pairs.
        idle: Variables without a gradient. It counts as 0: they are not updated, but noise moves
            them.
        frozen: Variables that nothing moves. Like the others, they have slots, so that a run can be
            resumed with another --freeze.
    """

    gradients: Gradients
    idle: List[tf.Variable]
    frozen: List[tf.Variable]


class Validation(NamedTuple):
    """A validation, as operations for Session.run.

    Attributes:
        initializer: Operation to run before each validation.
        totals: Sums over a batch, float32 scalars; fetched once per batch, to the end of the data.
        steps: Number of batches.
        measures: {measure: {layer: float32 scalar}}; fetched once, together with the rest.
        measured_images: Number of images that the measures are taken on, float32 scalar.
        coefficients: Coefficients of the rule to record, {name: float32 scalar}.
        answers: What the network answers to the images of a batch; fetched together with totals.
    """

    initializer: tf.Operation
    totals: Dict[str, tf.Tensor]
    steps: int
    measures: Dict[str, Dict[str, tf.Tensor]]
    measured_images: tf.Tensor
    coefficients: Dict[str, tf.Tensor]
    answers: answers.Answered


class Experiment(Trainable):
    """The graph of one experiment.

    Args:
        config: Settings of the experiment.
        device: Device that it runs on.
        first_step: Number of updates done before, if a run is resumed.
        training: Whether to build the training step.
        validating: Whether to build the validation.
        closed_forms: Whether alignment losses use closed forms of their gradients where a rule has
            them. False uses automatic differentiation everywhere, for comparison.

    Raises:
        ConfigError: The settings contradict each other or do not fit the data.
        DataError: The data cannot be used.
    """

    def __init__(
        self,
        config: Config,
        device: Device,
        first_step: int = 0,
        training: bool = True,
        validating: bool = True,
        closed_forms: bool = True,
    ) -> None:
        check(config)
        self.config = config
        self.device = device
        self._closed_forms = closed_forms
        self.dataset = data.load(
            config.dataset,
            config.data_dir,
            image_size_of(config),
            preprocessing_of(config),
            config.validation_split,
            config.split,
            config.max_pixels,
        )
        _check_size(config, self.dataset)
        self.classes = self.dataset.classes
        self.steps_per_epoch = self.dataset.steps_per_epoch(config.train_batch_size)
        self.train_steps = whole_steps(config.train_epochs, self.steps_per_epoch)
        self.roles = {'global_step': Role.STEP}
        self._frozen: FrozenSet[str] = frozenset()
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(config.seed)
            self.global_step = tf.train.get_or_create_global_step()
            with tf.variable_scope('', reuse=tf.AUTO_REUSE):
                self.step = self._build_step(first_step) if training else None
                self.validation = self._build_validation() if validating else None
            self.initializer = tf.global_variables_initializer()
            self.variables = tf.global_variables()
            self.level = device.level(self.variables) if training else None
            self.asking = device.asking()
            self.saver = tf.train.Saver(self.variables, max_to_keep=None)
        self.graph.finalize()

    @property
    def plan(self) -> Plan:
        """The schedule of a run."""
        config = self.config
        scalars = tuple(self.step.scalars) if self.step else ()
        return Plan(
            steps=self.train_steps,
            batch_size=config.train_batch_size,
            validate_first=config.validate_first,
            validate_every=self.to_steps(config.validates_each),
            weights_every=self.to_steps(config.epochs_per_checkpoint),
            recent_every=self.to_steps(config.epochs_per_recent_checkpoint),
            record_every=RECORD_EVERY,
            initial_weights=config.validate_first,
            keep=config.checkpoint_max,
            save_to_gfs=config.save_to_gfs,
            known=scalars + layout.DETAILS,
            limits=dict.fromkeys(scalars, EXPLODED),
            skips=config.skip_bad_records,
            source=f'--data_dir={config.data_dir}',
            steps_per_epoch=self.steps_per_epoch,
        )

    @property
    def built_validation(self) -> Validation:
        """The validation.

        Raises:
            ValueError: The graph only trains.
        """
        if self.validation is None:
            raise ValueError('this graph was built to train: it has no validation')
        return self.validation

    @property
    def automatic_layers(self) -> Optional[List[str]]:
        """Names of the layers whose alignment loss uses automatic differentiation.

        None if there is no alignment loss.
        """
        return self._rule.automatic if self._rule and self._rule.sees else None

    def run_steps(self, session: tf.Session, most: int) -> List[Document]:
        """Runs up to `most` training steps in one call.

        Returns:
            [{name: float32 scalar}], one dictionary per step, of the state before its update.
        """
        step = self.training_step
        if step.steps is None:
            return [session.run([step.train_op, step.scalars])[1]]
        count = min(most, self.device.steps_per_call)
        scalars = session.run([step.train_op, step.scalars], {step.steps: count})[1]
        return [{name: values[index] for name, values in scalars.items()} for index in range(count)]

    def validate(
        self,
        session: tf.Session,
        between: Callable[[], None] = lambda: None,
        in_detail: bool = False,
    ) -> Results:
        """Returns {TARGET: results} of the validation set; see training.validation.validate."""
        return {TARGET: validation.validate(session, self, between, in_detail)}

    def find_damage(self, step: int, steps: int, in_files: bool) -> Optional[str]:
        """Describes the damaged image because of which steps failed, in one sentence.

        Args:
            step: The last step that was done.
            steps: Number of steps in the call that failed.
            in_files: Whether the files themselves cannot be read.

        Returns:
            The sentence, or None if no damage was found.
        """
        with tf.Graph().as_default():
            return self.dataset.find_damage(
                'train',
                None
                if in_files
                else self.dataset.suspects(
                    self.config.train_batch_size, self.config.seed, step, steps
                ),
            )

    def find_validation_damage(self, in_files: bool) -> Optional[str]:
        """Describes the damaged image because of which a validation failed; see `find_damage`."""
        with tf.Graph().as_default():
            return self.dataset.find_damage(
                'validation', None if in_files else self.dataset.records('validation', None)
            )

    def summary(self, results: Results) -> str:
        """Returns one line about the results of `validate`."""
        return validation.summary(results[TARGET])

    def warnings(self, results: Results) -> List[str]:
        """Returns warnings about the results of `validate`, as sentences."""
        return validation.warnings(results[TARGET], self.config.precision)

    @property
    def collection(self) -> str:
        """The name of the collection for the records, such as 'fc_32-16' or 'resnet50v2'."""
        return NETWORKS[self.config.model].label(self._network_options)

    def settings(self) -> Dict[str, Document]:
        """Returns what a record holds about the settings beyond the flags.

        Returns:
            {group: {name: plain value}}.
        """
        config, to_steps = self.config, self.to_steps
        build = NETWORKS[config.model].build
        return {
            'save_params': {
                'collname': self.collection,
                'exp_id': config.exp_id,
                'do_save': True,
                'save_valid_freq': to_steps(config.validates_each),
                'save_filters_freq': to_steps(config.epochs_per_checkpoint),
                'cache_filters_freq': to_steps(config.epochs_per_recent_checkpoint),
            },
            'model_params': dict(
                self._of_the_rule(),
                func=getattr(build, 'func', build),
                num_classes=self.dataset.classes,
                image_shape=self.dataset.image_shape,
                seed=config.seed,
                cfg_final={},
            ),
            'train_params': {
                'num_steps': self.train_steps,
                'steps_per_epoch': self.steps_per_epoch,
                'train_images': self.dataset.train_images,
                'data_params': {'batch_size': config.train_batch_size},
            },
            'validation_params': {
                TARGET: {
                    'num_steps': self.built_validation.steps,
                    'validation_images': self.dataset.validation_images,
                    'split': self.dataset.validated_split,
                    'data_params': {'batch_size': config.eval_batch_size},
                }
            },
        }

    def _of_the_rule(self) -> Document:
        """Returns the values of the settings that the rule declares, for a record.

        `declared` holds the rule's defaults, for a reader that does not know the rule.
        """
        rule = RULES.get(self.config.alignment or '')
        if rule is None:
            return {}
        coefficients = {name: float(value) for name, value in rule.coefficients.items()}
        own = dict(coefficients, **rule.switches, **rule.sizes)
        used = {name: _or(self.config.of_rule(name), default) for name, default in own.items()}
        return dict(used, declared=own)

    def to_steps(self, epochs: Optional[float]) -> Optional[int]:
        """Converts a duration in epochs to whole steps, at least 1; None stays None."""
        return None if epochs is None else max(1, whole_steps(epochs, self.steps_per_epoch))

    @property
    def _network_options(self) -> NetworkOptions:
        config = self.config
        return NetworkOptions(tuple(config.layers_list), config.activation, config.use_resnet_v2)

    def _read_schedules(self) -> Schedules:
        """Returns the Schedules at the current value of the step counter."""
        config, per_epoch = self.config, self.steps_per_epoch
        step = self.global_step.read_value()
        cls = RULES.get(config.alignment or '')
        planned = (
            {name: self._coefficient(name, value) for name, value in cls.coefficients.items()}
            if cls
            else {}
        )
        coefficients = {name: schedule(step) for name, schedule in planned.items()}
        # A constant coefficient is passed as a number, because the closed form of a rule may be
        # simpler for a number.
        values = {
            name: float(schedule.value) if schedule.is_constant else coefficients[name]
            for name, schedule in planned.items()
        }
        rule = self._make_rule(cls, values, step) if cls else None
        loss_rates = schedules.LossRates(
            per_epoch,
            loss_rate=config.loss_rate,
            alignment_rate=config.alignment_rate,
            delay_epochs=config.delay_epochs,
            alternate_step_freq=config.alternate_step_freq,
            constant=config.constant_rate,
        )(step)
        learning_rates = [self._learning_rate('', delay_epochs=config.delay_epochs)(step)]
        if config.alignment_optimizer:
            learning_rates.append(
                self._learning_rate('alignment_', drops_delayed_by=config.delay_epochs)(step)
            )
        return Schedules(step, coefficients, rule, loss_rates, learning_rates)

    def _coefficient(self, name: str, default: float) -> schedules.Coefficient:
        given = self.config.coefficient(name)
        return schedules.Coefficient(
            _or(given.value, default),
            start=given.start,
            stop=given.stop,
            cycle=given.cycle,
            rate=given.rate,
            kind=given.kind,
            steps_per_epoch=self.steps_per_epoch,
            train_epochs=self.config.train_epochs,
        )

    def _make_rule(
        self, cls: Type[Rule], coefficients: Mapping[str, Scalar], step: tf.Tensor
    ) -> Rule:
        config = self.config
        others = [*cls.switches.items(), *cls.sizes.items()]
        return cls(
            options=ViewOptions(**{name: getattr(config, name) for name in ViewOptions._fields}),
            seed=config.seed,
            step=step,
            **coefficients,
            **{name: _or(config.of_rule(name), default) for name, default in others},
        )

    def _learning_rate(self, prefix: str, **delay: Optional[float]) -> schedules.LearningRate:
        config = self.config
        return schedules.LearningRate(
            base=getattr(config, prefix + 'learning_rate'),
            steps_per_epoch=self.steps_per_epoch,
            batch_size=config.train_batch_size,
            base_batch_size=config.base_batch_size,
            rescale=getattr(config, prefix + 'rescale_lr'),
            constant=getattr(config, prefix + 'constant_lr'),
            warmup_epochs=getattr(config, prefix + 'warmup_epochs'),
            alternate_step_freq=config.alternate_step_freq,
            drop_epochs=getattr(config, prefix + 'drop_epochs'),
            manual=getattr(config, prefix + 'manual_lr'),
            drop=_or(getattr(config, prefix + 'drop'), config.drop),
            boundary_step=_or(getattr(config, prefix + 'boundary_step'), config.boundary_step),
            **delay,
        )

    def _network(
        self,
        rule: Optional[Rule],
        images: tf.Tensor,
        is_training: bool,
        precision: str = 'float32',
        replicated: bool = False,
    ) -> Tuple[tf.Tensor, Layers]:
        """Builds the network of one replica.

        Args:
            rule: The alignment rule; None for backpropagation.
            images: Images of the replica, as the data set stores them.
            is_training: Whether batch norm uses the statistics of the batch.
            precision: Name of the type to compute in.
            replicated: Whether this is one of several replicas of a step. Batch norm then uses
                statistics of all replicas if --sync_batch_norm is given and the device has several.

        Returns:
            (logits, layers); the logits are float32 [batch, classes].
        """
        config, device = self.config, self.device
        together = replicated and config.sync_batch_norm
        layers = (StockLayers if config.tf_layers else Layers)(
            rule,
            is_training=is_training,
            regularize=config.regularize_weights_via_model,
            weight_decay=config.weight_decay,
            bn_trainable=config.bn_trainable,
            seed=config.seed,
            dtype=tf.as_dtype(precision),
            data_format=device.data_format,
            across=device if together and isinstance(device, Replicas) else None,
            over_replicas=device.over_replicas if replicated else None,
            classes=self.dataset.classes,
            few_positions=runtime.FEW_POSITIONS,
        )
        logits = NETWORKS[config.model].build(
            self.dataset.normalise(images), layers, self.dataset.classes, self._network_options
        )
        self.roles.update(layers.roles)
        return tf.cast(layers.finish(logits), tf.float32), layers

    def _build_step(self, first_step: int) -> Step:
        iterator = tf.data.make_initializable_iterator(
            runtime.untranslated(self.dataset.train)(
                self.config.train_batch_size,
                self.config.seed,
                first_step,
                self.device.part,
                tolerant=self.config.skip_bad_records > 0,
            )
        )
        return Step(iterator.initializer, *self.device.call(self._step, iterator.get_next))

    def _step(self, batch: Batch) -> Tuple[tf.Operation, Scalars]:
        """Returns (train_op, scalars) of a step on a batch."""
        config, now = self.config, self._read_schedules()
        scale = losses.LossScale() if config.precision == 'float16' else losses.NoScale()
        self._rule = now.rule
        self.roles.update(dict.fromkeys(scale.names, Role.LOSS_SCALE))

        kept: List[List[tf.Variable]] = []  # the frozen variables that each objective depends on

        def replica(batch: Batch, part: Part) -> Tuple[Outcome, List[tf.Operation]]:
            logits, layers = self._network(
                now.rule, batch['images'], True, config.precision, replicated=True
            )
            terms = losses.of(logits, batch['labels'], layers, self._closed_forms, part)
            objectives = losses.objectives(
                terms, *now.loss_rates, separate=bool(config.alignment_optimizer)
            )
            variables = tf.trainable_variables()
            gradients = [tf.gradients(scale.up(objective), variables) for objective in objectives]
            self._frozen = freezing.frozen(
                config.freeze,
                [v.op.name for v in variables],
                [record.name for record in layers.records],
                self.roles,
            )
            kept[:] = [self._frozen_of(found, variables) for found in gradients]
            # What is only needed for the gradient of a frozen variable is never computed.
            trained = [
                [None if v.op.name in self._frozen else g for g, v in zip(found, variables)]
                for found in gradients
            ]
            return Outcome(terms, trained), layers.updates

        outcome, updates = self.device.mean(
            replica, {name: batch[name] for name in ('images', 'labels')}
        )
        updated = self._updated(outcome.gradients, kept, scale.down)
        scalars = self._scalars(outcome.losses, now)
        if 'skipped' in batch:
            scalars['skipped_records'] = tf.reduce_sum(batch['skipped'])
        # Gradients and reported numbers refer to the variables before the step, so all of them must
        # be computed before any variable is updated.
        known = [g for each in updated for g, _ in each.gradients]
        with tf.control_dependencies(known + list(scalars.values()) + updates):
            done = scale.guard(known, functools.partial(self._apply, updated, now))
        with tf.control_dependencies([done]):
            return self.global_step.assign_add(1, read_value=False), scalars

    def _frozen_of(
        self, gradients: Sequence[Optional[tf.Tensor]], variables: Sequence[tf.Variable]
    ) -> List[tf.Variable]:
        """Returns the frozen variables that have a gradient."""
        pairs = zip(gradients, variables)
        return [v for g, v in pairs if g is not None and v.op.name in self._frozen]

    def _updated(
        self,
        gradients: Sequence[Sequence[Optional[tf.Tensor]]],
        kept: Sequence[List[tf.Variable]],
        down: Callable[[tf.Tensor], tf.Tensor],
    ) -> List[Updated]:
        """Returns the variables of each optimiser.

        Args:
            gradients: For each optimiser, the gradients of all trainable variables, or None.
            kept: For each optimiser, the frozen variables that its objective depends on.
            down: See losses.NoScale.down.

        Raises:
            ConfigError: An optimiser has nothing to train.
        """
        variables = tf.trainable_variables()
        pairs = [
            [(down(g), v) for g, v in zip(found, variables) if g is not None] for found in gradients
        ]
        for name, each in zip(('--optimizer', '--alignment_optimizer'), pairs):
            if self._frozen and not each:
                raise ConfigError(
                    f'--freeze={",".join(self.config.freeze)} leaves nothing to train by {name}'
                )
        # The task loss does not depend on these backward kernels. Their slots exist, too, so that
        # every checkpoint holds them.
        moved = {v.op.name for _, v in pairs[0]} | {v.op.name for v in kept[0]}
        others = [
            v
            for v in variables
            if self.roles[v.op.name] is Role.BACKWARD and v.op.name not in moved
        ]
        idle, still = [
            [v for v in others if (v.op.name in self._frozen) == is_frozen]
            for is_frozen in (False, True)
        ]
        first = Updated(pairs[0], idle, kept[0] + still)
        return [first] + [Updated(own, [], each) for own, each in zip(pairs[1:], kept[1:])]

    def _scalars(self, terms: losses.Losses, now: Schedules) -> Scalars:
        """Returns the numbers that are recorded for every step."""
        total = tf.add_n(losses.objectives(terms, *now.loss_rates, separate=True))
        scalars = {
            'loss': total,
            'model_loss': terms.model,
            'reg_loss': terms.reg,
            'alignment_loss': terms.alignment,
            'total_loss': total,
            'learning_rate': now.learning_rates[0],
        }
        if self.config.alignment_optimizer:  # the original records only the numbered names
            scalars.update(
                alignment_learning_rate=now.learning_rates[1],
                learning_rate_0=now.learning_rates[0],
                learning_rate_1=now.learning_rates[1],
            )
        return {name: tf.identity(tensor) for name, tensor in scalars.items()}

    def _apply(self, updated: Sequence[Updated], now: Schedules) -> tf.Operation:
        """Returns the update by all optimisers, one after the other, and their noise.

        Args:
            updated: The variables of each optimiser.
            now: The schedules.
        """
        config = self.config
        names = [
            (config.optimizer, 'global_opt'),
            (config.alignment_optimizer or '', 'alignment_opt'),
        ]
        done: List[tf.Operation] = []
        for (name, which), rate, (pairs, idle, frozen) in zip(names, now.learning_rates, updated):
            clipped = [g for g, _ in pairs]
            if config.grad_clip:
                clipped = optimizers.clip(
                    clipped, config.grad_clipping_method, config.grad_clipping_value
                )
            variables = [v for _, v in pairs]
            with tf.control_dependencies(done):
                optimizer = optimizers.build(
                    name, rate, now.step, optimizers.Options(config.nesterov)
                )
                done = [optimizers.apply(optimizer, list(zip(clipped, variables)), idle + frozen)]
            self.roles.update({v.op.name: Slot(name) for v in optimizer.variables()})
            if getattr(config, 'use_noisy_' + which):
                with tf.control_dependencies(done):
                    done = [self._noise(which, rate, variables + idle, now)]
        return tf.group(*done)

    def _noise(
        self, which: str, rate: tf.Tensor, variables: List[tf.Variable], now: Schedules
    ) -> tf.Operation:
        config = self.config
        distribution, variance = [
            getattr(config, f'noisy_{which}_{name}') for name in ('distribution', 'variance')
        ]
        if distribution is None:
            distribution, variance = config.noisy_opt_distribution, config.noisy_opt_variance
        # With tied gradients, W and B have the same gradients, and only B is noisy.
        if now.rule and now.rule.tie_gradients:
            variables = [v for v in variables if self.roles[v.op.name] is Role.BACKWARD]
        seed = f'{config.seed}:{which}'  # separate, so that the two noises are independent
        deltas = optimizers.noise(variables, rate, now.step, distribution, variance, seed)
        return tf.group(
            *[v.assign_add(delta, read_value=False) for v, delta in zip(variables, deltas)]
        )

    def _build_validation(self) -> Validation:
        config, dataset, device = self.config, self.dataset, self.device
        batch_size = min(config.eval_batch_size, dataset.validation_images)
        batch_size += -batch_size % device.replicas
        iterator, first = [
            tf.data.make_initializable_iterator(
                runtime.untranslated(batches)(size, config.skip_bad_records > 0)
            )
            for batches, size in (
                (dataset.validation, batch_size),
                (dataset.first, min(config.measure_images, dataset.validation_images)),
            )
        ]
        # The measures are taken in training mode (batch norm uses the statistics of the batch), but
        # on the same images for all batch sizes and devices, so that two runs can be compared.
        few, batch = first.get_next(), iterator.get_next()
        measures = device.once(self._measures, {name: few[name] for name in ('images', 'labels')})
        counted = device.total(self._totals, batch)
        return Validation(
            tf.group(iterator.initializer, first.initializer),
            counted.totals,
            dataset.validation_steps(batch_size),
            measures,
            tf.reduce_sum(few['mask']),
            self._read_schedules().coefficients
            if config.save_alignment_coefficients or config.tensorboard
            else {},
            answers.of(batch, counted.each),
        )

    def _totals(self, batch: Batch) -> Counted:
        """Returns what training.metrics computes of a batch, and how many images it skipped."""
        logits, _ = self._network(
            self._read_schedules().rule, batch['images'], False, self.config.precision
        )
        totals = metrics.totals(logits, batch['labels'], batch['mask'])
        if 'skipped' in batch:
            totals['skipped_records'] = tf.reduce_sum(batch['skipped'])
        return Counted(totals, metrics.answers(logits, batch['labels']))

    def _measures(self, batch: Batch) -> measures.Measures:
        """Returns the measures of alignment.measures of a batch."""
        rule = self._read_schedules().rule
        used = self._passes(rule, batch)
        found = measures.measure(used)
        if rule is None:
            return dict(found, **measures.compare(used, used))
        # One network after the other: both at once would need twice the memory.
        done = [value for by_layer in found.values() for value in by_layer.values()]
        with tf.control_dependencies(done + list(used.errors)):
            images = tf.identity(batch['images'])
        backprop = self._passes(None, dict(batch, images=images))
        return dict(found, **measures.compare(used, backprop))

    def _passes(self, rule: Optional[Rule], batch: Batch) -> measures.Pass:
        """Returns the forward and backward pass of a batch, under a rule or by backpropagation."""
        logits, layers = self._network(rule, batch['images'], True)
        return measures.back(
            layers.records,
            tf.reduce_mean(losses.cross_entropy(logits, batch['labels'])),
            logits,
            undivided=rule is not None and rule.sends_whole_error,
        )


def image_size_of(config: Config) -> Optional[int]:
    """Returns the size of a Config's images; None for the default of its data set."""
    return config.image_size or NETWORKS[config.model].image_size


def _check_size(config: Config, dataset: data.Dataset) -> None:
    """Raises ConfigError if the images are too small for the network."""
    smallest, (height, width, _) = NETWORKS[config.model].smallest_image, dataset.image_shape
    if min(height, width) < smallest:
        raise ConfigError(
            f'--model={config.model} needs images of at least {smallest} x {smallest} pixels, and '
            f'those of --dataset={config.dataset} have {height} x {width}; give '
            f'--image_size={smallest} or more'
        )


def preprocessing_of(config: Config) -> Optional[str]:
    """Returns the preprocessing of a Config's images; None for the default of its data set.

    A ResNet v2 uses 'inception' by default.
    """
    takes = data.DATASETS[config.dataset].preprocessings
    by_default = 'inception' if config.use_resnet_v2 and takes else None
    return config.preprocessing or by_default


def _or(value: Optional[Value], default: Value) -> Value:
    return default if value is None else value
