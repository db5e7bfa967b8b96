"""The optimisers by name, and the clipping and noise that gradients and updates may get.

    optimizer = optimizers.build('momentum', learning_rate, step)
    update = optimizers.apply(optimizer, zip(optimizers.clip(gradients, 'norm', 1.0), variables))

RAdam and SWATS are implemented here; the others are TensorFlow's. `step` is the int64 scalar tensor
that counts the updates done before this one. It is read once and passed in, so that an update never
races with the increment of the step counter.
"""

import math
import re
from typing import (
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
    Union,
)

import numpy as np
import tensorflow.compat.v1 as tf

from alignment.draws import seed_of, step_seed
from database.types import Array

Clipped = List[Optional[tf.Tensor]]
Choice = TypeVar('Choice')


class Options(NamedTuple):
    """The settings of the optimisers.

    Attributes:
        nesterov: Whether momentum uses Nesterov's correction.
    """

    nesterov: bool = True


def build(
    name: str, learning_rate: tf.Tensor, step: tf.Tensor, options: Options = Options()
) -> tf.train.Optimizer:
    """Returns the optimiser OPTIMIZERS[name].

    Args:
        name: A key of OPTIMIZERS.
        learning_rate: float32 scalar.
        step: Number of updates done before this one, int64 scalar; only RAdam and SWATS read it.
        options: The settings of the optimisers.

    Raises:
        ValueError: The name is unknown.
    """
    return _choose(OPTIMIZERS, name, 'optimizer')(learning_rate, step, options)


def clip(gradients: Sequence[Optional[tf.Tensor]], method: str, value: float) -> Clipped:
    """Returns the gradients, clipped by CLIPPINGS[method]; None stays None.

    Args:
        gradients: float32 tensors of any shape, or None.
        method: 'norm' scales all gradients by one factor so that their global norm is at most
            `value`. A norm that is not finite counts as 1, as in tfutils' ClipOptimizer, so that
            one bad gradient neither spoils nor silences the others. 'value' clips each element to
            [-value, value].
        value: The limit.

    Raises:
        ValueError: The method is unknown.
    """
    return _choose(CLIPPINGS, method, 'clipping method')(gradients, value)


def apply(
    optimizer: tf.train.Optimizer,
    gradients_and_variables: Iterable[Tuple[Optional[tf.Tensor], tf.Variable]],
    idle: Sequence[tf.Variable] = (),
) -> tf.Operation:
    """Returns the operation that updates every variable that has a gradient.

    A gradient depends on several variables, so all gradients must be computed before any variable
    is updated. With two optimisers, build both updates inside `tf.control_dependencies` of all
    gradients.

    Args:
        optimizer: The optimiser.
        gradients_and_variables: (gradient or None, variable) pairs.
        idle: Variables that only get slots, as if their gradient were 0 at every step.

    Raises:
        ValueError: No variable has a gradient.
    """
    pairs = [
        (gradient, variable)
        for gradient, variable in gradients_and_variables
        if gradient is not None
    ]
    # Adam names its power variables after the name scope.
    with tf.control_dependencies([gradient for gradient, _ in pairs]), tf.name_scope(None):
        update = optimizer.apply_gradients(pairs)
    if idle:
        with tf.control_dependencies(None):
            # apply_gradients creates the slots with the same method.
            optimizer._create_slots(list(idle))
    return update


def noise(
    variables: Sequence[tf.Variable],
    learning_rate: tf.Tensor,
    step: tf.Tensor,
    distribution: str,
    variance: float,
    seed: Union[int, str] = 0,
) -> List[tf.Tensor]:
    """Returns the noise to add to each variable after its update: learning_rate * noise, mean 0.

    The draw depends only on `seed`, `step` and the variable's name, so a resumed run draws the same
    noise, and so does every host.

    Args:
        variables: float32 variables of any shape.
        learning_rate: float32 scalar.
        step: Number of updates done before this one, int64 scalar.
        distribution: A key of DISTRIBUTIONS.
        variance: Variance of the noise before it is scaled by the learning rate.
        seed: Use a different one for each noisy optimiser.

    Raises:
        ValueError: The distribution is unknown.
    """
    draw = _choose(DISTRIBUTIONS, distribution, 'noise distribution')

    def drawn(variable: tf.Variable) -> tf.Tensor:
        return draw(variable.shape, step_seed(seed_of(seed, variable.op.name), step), variance)

    return [learning_rate * drawn(variable) for variable in variables]


class RAdam(tf.train.Optimizer):
    """Rectified Adam (Liu et al. 2019, arXiv:1908.03265).

    With t = step + 1, the update of a variable with gradient g is

      m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
      update = -learning_rate m / (1 - beta1^t) * r_t sqrt(1 - beta2^t) / (sqrt(v) + epsilon)
      if rho_t >= 5, and
      update = -learning_rate m / (1 - beta1^t)
      otherwise.

    The slots of a variable are 'm' and 'v', float32, of its shape.

    Args:
        learning_rate: float32 scalar.
        step: Number of updates done before this one, int64 scalar.
        beta1: Decay rate of m.
        beta2: Decay rate of v.
        epsilon: Keeps the denominator away from 0.
        name: Name of the optimiser and of its slots.

    Raises:
        NotImplementedError: A gradient is sparse.
    """

    rectified = True
    rectifies = staticmethod(tf.greater_equal)

    def __init__(
        self,
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-9,
        name: str = 'RAdam',
    ):
        super().__init__(use_locking=False, name=name)
        self.learning_rate = learning_rate
        self.t = tf.cast(step, tf.float32) + 1.0
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def _create_slots(self, var_list: Sequence[tf.Variable]) -> None:
        for variable in var_list:
            self._zeros_slot(variable, 'm', self._name)
            self._zeros_slot(variable, 'v', self._name)

    def _resource_apply_dense(self, grad: tf.Tensor, handle: tf.Variable) -> tf.Operation:
        update, moments = self._adam(grad, handle)
        return tf.group(handle.assign_add(update, read_value=False), moments)

    def _apply_dense(self, grad: tf.Tensor, var: tf.Variable) -> tf.Operation:
        return self._resource_apply_dense(grad, var)

    def _resource_apply_sparse(
        self, grad: tf.Tensor, handle: tf.Variable, indices: tf.Tensor
    ) -> tf.Operation:
        return self._apply_sparse(grad, handle)

    def _apply_sparse(self, grad: tf.Tensor, var: tf.Variable) -> tf.Operation:
        raise NotImplementedError(
            f'{self._name} does not support sparse gradients: {var.op.name} has one.'
        )

    def _adam(self, gradient: tf.Tensor, variable: tf.Variable) -> Tuple[tf.Tensor, tf.Operation]:
        """Returns the update, of the variable's shape, and the operation that stores m and v."""
        m_slot, v_slot = self.get_slot(variable, 'm'), self.get_slot(variable, 'v')
        m = self.beta1 * m_slot + (1 - self.beta1) * gradient
        v = self.beta2 * v_slot + (1 - self.beta2) * tf.square(gradient)
        scale = tf.sqrt(weight(self.beta2, self.t)) / (tf.sqrt(v) + self.epsilon)
        if self.rectified:
            rho, r = rectification(self.beta2, self.t)
            scale = tf.where(self.rectifies(rho, 5.0), r * scale, tf.ones_like(scale))
        update = -self.learning_rate * m / weight(self.beta1, self.t) * scale
        return update, tf.group(
            m_slot.assign(m, read_value=False), v_slot.assign(v, read_value=False)
        )


class SWATS(RAdam):
    """Switches from Adam to SGD (Keskar & Socher 2017, arXiv:1712.07628), variable by variable.

    In the Adam phase, p is the update of Adam or, if `rectified`, of RAdam with rho_t > 5 as the
    condition. The update p is applied. With t = step + 1, and if p.g != 0,

      gamma = -(p.p) / (p.g),  Lambda = beta2 Lambda + (1 - beta2) gamma
      rate = Lambda / (1 - beta2^t)

    are computed. If t > 1 and |rate - gamma| < epsilon, the SGD phase begins with the next step. It
    uses this rate to the end, whatever the schedule of the learning rate is:

      M = beta1 M + g,  update = -(1 - beta1) rate M

    The slots of a variable are 'm', 'v' and 'momentum' (M), float32, of its shape, and two float32
    scalars: 'rate' (Lambda in the Adam phase, rate in the SGD phase) and 'sgd' (1 in the SGD
    phase).

    Args:
        learning_rate: float32 scalar, used in the Adam phase.
        step: Number of updates done before this one, int64 scalar.
        rectified: Whether the Adam phase uses RAdam.
        beta1: Decay rate of m and of M.
        beta2: Decay rate of v and of Lambda.
        epsilon: Keeps the denominator away from 0, and decides when to switch.
        name: Name of the optimiser and of its slots.

    Raises:
        NotImplementedError: A gradient is sparse.
    """

    rectifies = staticmethod(tf.greater)

    def __init__(
        self,
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        rectified: bool = False,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-9,
        name: str = 'SWATS',
    ):
        super().__init__(learning_rate, step, beta1, beta2, epsilon, name)
        self.rectified = rectified

    def _create_slots(self, var_list: Sequence[tf.Variable]) -> None:
        super()._create_slots(var_list)
        for variable in var_list:
            self._zeros_slot(variable, 'momentum', self._name + '/momentum')
            for name in ('rate', 'sgd'):
                self._get_or_make_slot_with_initializer(
                    variable,
                    tf.zeros_initializer(),
                    tf.TensorShape([]),
                    tf.float32,
                    name,
                    f'{self._name}/{name}',
                )

    def _resource_apply_dense(self, grad: tf.Tensor, handle: tf.Variable) -> tf.Operation:
        slots = {name: self.get_slot(handle, name) for name in ('momentum', 'rate', 'sgd')}
        rate, sgd = tf.identity(slots['rate']), tf.equal(slots['sgd'], 1.0)
        p, moments = self._adam(grad, handle)
        estimate, switches = self._estimate(p, grad, rate)
        momentum = tf.where(sgd, self.beta1 * slots['momentum'] + grad, tf.zeros_like(grad))
        update = tf.where(sgd, -(1 - self.beta1) * rate * momentum, p)
        return tf.group(
            handle.assign_add(update, read_value=False),
            moments,
            slots['momentum'].assign(momentum, read_value=False),
            slots['rate'].assign(tf.where(sgd, rate, estimate), read_value=False),
            slots['sgd'].assign(
                tf.cast(tf.logical_or(sgd, switches), tf.float32), read_value=False
            ),
        )

    def _estimate(
        self, p: tf.Tensor, gradient: tf.Tensor, mean: tf.Tensor
    ) -> Tuple[tf.Tensor, tf.Tensor]:
        """Returns the next value of the slot 'rate' and whether to switch: float32, bool scalar."""
        gamma = -tf.reduce_sum(p * p) / tf.reduce_sum(p * gradient)
        usable = tf.is_finite(gamma)  # False if p.g is 0, or too small to divide by
        mean = tf.where(usable, self.beta2 * mean + (1 - self.beta2) * gamma, mean)
        rate = mean / weight(self.beta2, self.t)
        switches = tf.reduce_all([usable, self.t > 1.0, tf.abs(rate - gamma) < self.epsilon])
        return tf.where(switches, rate, mean), switches


# Slots of SWATS in a checkpoint, for each variable and each optimiser. In our layout, m and v are
# `<variable>/SWATS` (or SWRATS) and the same with _1, and the other three slots have their names
# appended. In the original's layout, the slots are `<variable>/SWATS`, SWATS_1 ... SWATS_5 for
# both optimisers, each an array of the variable's shape.
ORIGINAL_SLOTS = ('phase', 'm', 'v', 'momentum', 'Lambda', 'p_k')
SLOT_OF_SWATS = re.compile(r'(.+?)/(SWATS|SWRATS)(_\d+)?(/(momentum|rate|sgd)(_(\d+))?)?')


def stored_slots(
    variables: Sequence[tf.Variable],
    stored: Dict[str, List[int]],
    read: Callable[[str], Array],
) -> Tuple[Dict[str, Array], Set[str]]:
    """Finds the slots of SWATS and SWRATS in a checkpoint whose layout is not ours.

    The layout of the original is converted: its phase (0 for Adam) becomes `sgd`, and its Lambda
    becomes `rate`. Its p_k, the last update of Adam, is never read again and is ignored.

    Args:
        variables: All variables here, in the order in which they were created.
        stored: {name: shape} of the variables in the checkpoint.
        read: Returns the value of a stored variable by its name, an array.

    Returns:
        ({name of a slot here: its value}, names). The first holds the slots that the checkpoint has
        in the original's layout; the names are of slots that it has in an unknown layout.
    """
    there: Dict[str, Set[str]] = {}  # {variable: names of its slots in the checkpoint}
    for name in stored:
        match = SLOT_OF_SWATS.fullmatch(name)
        if match:
            there.setdefault(match.group(1), set()).add(name)
    values: Dict[str, Array] = {}
    unknown: Set[str] = set()
    seen: Dict[str, int] = {}
    for slot in variables:
        match = SLOT_OF_SWATS.fullmatch(slot.op.name)
        if not (match and match.group(5) == 'rate'):  # each optimiser has one of a variable
            continue
        owner, name, count = match.group(1), match.group(2), int(match.group(7) or 0)
        # The original numbers the slots of two optimisers consecutively.
        index = seen[owner] = seen.get(owner, -1) + 1
        ours = dict(
            m=_numbered(f'{owner}/{name}', 2 * count),
            v=_numbered(f'{owner}/{name}', 2 * count + 1),
            **{
                part: _numbered(f'{owner}/{name}/{part}', count)
                for part in ('momentum', 'rate', 'sgd')
            },
        )
        found = there.get(owner, set())
        # The checkpoint has no slots of this variable, or has them in our layout.
        if not found or any('/rate' in each[len(owner) :] for each in found):
            continue
        originals = _original_slots(owner, index, found, stored, read)
        if originals is None:
            unknown.update(set(ours.values()))
        else:
            values.update({ours[part]: value for part, value in originals.items()})
    return values, unknown


def _original_slots(
    owner: str,
    index: int,
    found: Set[str],
    stored: Dict[str, List[int]],
    read: Callable[[str], Array],
) -> Optional[Dict[str, Array]]:
    """Reads the slots of a variable from the original's layout.

    Args:
        owner: Name of the variable.
        index: Number of the optimiser among those of the variable, from 0.
        found: Names of the stored slots of the variable.
        stored: {name: shape} of the variables in the checkpoint.
        read: Returns the value of a stored variable by its name, an array.

    Returns:
        {name of our slot: its value}; None if the layout is not the original's.
    """
    count = len(ORIGINAL_SLOTS)
    names = [_numbered(owner + '/SWATS', number) for number in range(len(found))]
    if (
        set(names) != found
        or len(names) % count
        or any(stored[name] != stored.get(owner) for name in names)
    ):
        return None
    values = {
        slot: read(name)
        for slot, name in zip(ORIGINAL_SLOTS, names[index * count : (index + 1) * count])
        if slot != 'p_k'
    }
    scalars = [np.unique(values[slot]) for slot in ('phase', 'Lambda') if values]
    if not values or any(len(each) != 1 for each in scalars):
        return None
    phase, rate = scalars
    return dict(
        m=values['m'],
        v=values['v'],
        momentum=values['momentum'],
        rate=rate.astype(np.float32)[0],
        sgd=np.float32(phase[0] > 0),
    )


def _numbered(name: str, number: int) -> str:
    """Returns the name of the scope that TensorFlow opens as number 0, 1, ... of a name."""
    return f'{name}_{number}' if number else name


def weight(beta: float, t: tf.Tensor) -> tf.Tensor:
    """Returns 1 - beta^t, the total weight of a moving average after t steps: float32 scalar.

    It is computed without cancellation.
    """
    return -tf.math.expm1(t * math.log(beta))


def rectification(beta2: float, t: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
    """Returns rho_t and r_t of RAdam, float32 scalars (arXiv:1908.03265, algorithm 2).

      rho_inf = 2 / (1 - beta2) - 1,  rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t)
      r_t = sqrt((rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t))

    r_t is used where rho_t >= 5. Below, where its square would become negative, it keeps the value
    that it has at 5.
    """
    rho_inf = 2 / (1 - beta2) - 1
    gathered = weight(beta2, t)
    rho = rho_inf - 2 * t * (1 - gathered) / gathered
    real = tf.maximum(rho, 5.0)
    return rho, tf.sqrt((real - 4) * (real - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * real))


def _clip_norm(gradients: Sequence[Optional[tf.Tensor]], value: float) -> Clipped:
    norm = tf.global_norm(gradients)
    norm = tf.where(tf.is_finite(norm), norm, tf.ones_like(norm))
    return tf.clip_by_global_norm(gradients, value, use_norm=norm)[0]


def _clip_value(gradients: Sequence[Optional[tf.Tensor]], value: float) -> Clipped:
    return [
        None if gradient is None else tf.clip_by_value(gradient, -value, value)
        for gradient in gradients
    ]


def _normal(shape: tf.TensorShape, seed: tf.Tensor, variance: float) -> tf.Tensor:
    return math.sqrt(variance) * tf.random.stateless_normal(shape, seed)


def _uniform(shape: tf.TensorShape, seed: tf.Tensor, variance: float) -> tf.Tensor:
    half = math.sqrt(12 * variance) / 2  # a uniform variable of width w has variance w^2 / 12
    return tf.random.stateless_uniform(shape, seed, -half, half)


def _choose(registry: Mapping[str, Choice], name: str, what: str) -> Choice:
    if name not in registry:
        raise ValueError(f'Unknown {what} {name!r}: choose one of {", ".join(sorted(registry))}.')
    return registry[name]


OPTIMIZERS: Dict[str, Callable[[tf.Tensor, tf.Tensor, Options], tf.train.Optimizer]] = {
    'gd': lambda rate, step, options: tf.train.GradientDescentOptimizer(rate),
    'momentum': lambda rate, step, options: tf.train.MomentumOptimizer(
        rate, 0.9, use_nesterov=options.nesterov
    ),
    'adagrad': lambda rate, step, options: tf.train.AdagradOptimizer(rate),
    'rmsprop': lambda rate, step, options: tf.train.RMSPropOptimizer(rate),
    'adam': lambda rate, step, options: tf.train.AdamOptimizer(rate),
    'radam': lambda rate, step, options: RAdam(rate, step),
    'swats': lambda rate, step, options: SWATS(rate, step),
    'swrats': lambda rate, step, options: SWATS(rate, step, rectified=True, name='SWRATS'),
}
CLIPPINGS = {'norm': _clip_norm, 'value': _clip_value}
DISTRIBUTIONS = {'normal': _normal, 'uniform': _uniform}
