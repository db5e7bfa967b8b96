"""One linear layer that only its alignment loss trains: theory in NumPy, and the layer itself.

docs/concepts.md derives the formulas. The layer computes y = x W, with W and B [in, units]. Its
state is z = B, or z = (B, W) if the alignment loss trains W as well, as one vector. Gradient
descent follows dz/dt = -g(z), or z <- z - step g(z), where g is the gradient of the loss. Around a
fixed point z*, g(z) is J (z - z*) to first order. J is symmetric, as the second derivative of a
loss, so everything follows from its eigenvalues.
"""

import enum
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from alignment import rules
from alignment.gradients import Dense
from alignment.view import LayerRecord, ViewOptions
from database.types import Array

IMAGES = 32  # of the batch whose second moment is exactly the given one
ZERO_RATE = 1e-9  # an eigenvalue below this share of the largest one is zero
# The distance from the fixed point at the start, by whether the system is linear at any distance.
START = {True: 1.0, False: 1e-3}
FOLDS = {True: 3.0, False: 5.0}  # e-folds that are followed, by whether the distance grows
MOST_STEPS = 20_000
FINE = 0.02  # the step in place of continuous time, as a share of 1 / the largest eigenvalue
CHANGE = 1.1  # from half of the time to its end, a distance that grows does so by this factor

Given = Mapping[str, float]  # {coefficient: its value}


class Around(enum.Enum):
    """The fixed point that a case is about.

    ONLY is the only one there is if W rests. If W moves: ZERO is W = B = 0; PRINCIPAL has W = B in
    the directions of the largest second moments of the input, as many as there are units; OTHERS
    leaves out the largest one.
    """

    ONLY = 'the fixed point'
    ZERO = 'W = B = 0'
    PRINCIPAL = 'W = B, principal directions'
    OTHERS = 'W = B, without the first direction'


class Verdict(enum.Enum):
    """Whether the distance from the fixed point shrinks to 0, stops above 0, or grows."""

    STABLE = 'stable'
    NEUTRAL = 'neutral'
    UNSTABLE = 'unstable'


class Case(NamedTuple):
    """A rule on one linear layer.

    Attributes:
        rule: The name of the rule, 'mirror' or 'information'.
        moves: Whether the alignment loss trains W, too (--update_forward).
        coefficients: {name: value} of all coefficients of the rule.
        moments: The eigenvalues of the second moment of the input, in falling order.
        units: The number of units.
        around: The fixed point.
    """

    rule: str
    moves: bool
    coefficients: Mapping[str, float]
    moments: Tuple[float, ...]
    units: int
    around: Around


class Layer(NamedTuple):
    """A case as arrays, in float64.

    Attributes:
        C: The second moment of the input, [in, in].
        W: The forward kernel at the fixed point, [in, units].
        B: The backward kernel there, [in, units].
        J: The derivative of the gradient there, [state, state].
    """

    C: Array
    W: Array
    B: Array
    J: Array


def layer(case: Case, seed: int = 0) -> Layer:
    """Returns the fixed point of a case, and the linear system around it.

    Args:
        case: The case.
        seed: Of the directions of the input, and of W if it rests.
    """
    stream = np.random.RandomState(seed)
    directions = _orthogonal(stream, len(case.moments))
    C = (directions * np.array(case.moments)) @ directions.T
    if case.moves:
        W = B = directions @ _diagonal(case) @ _orthogonal(stream, case.units).T
    else:
        W = stream.normal(size=(len(case.moments), case.units)) / np.sqrt(len(case.moments))
        B = RESTING[case.rule](C, W, case.coefficients)
    jacobian = (MOVING if case.moves else ALONE)[case.rule]
    return Layer(C, W, B, jacobian(C, W, case.coefficients))


def _orthogonal(stream: np.random.RandomState, size: int) -> Array:
    """Returns a random orthogonal matrix. Its signs do not depend on the version of LAPACK."""
    columns, triangle = np.linalg.qr(stream.normal(size=(size, size)))
    return columns * np.sign(np.diag(triangle))


def _diagonal(case: Case) -> Array:
    """Returns the singular values of W = B at a fixed point, as an array [in, units].

    Those of information are the roots of 2 beta m s^2 = alpha m - 2 gamma, for a moment m.
    """
    found = np.zeros((len(case.moments), case.units))
    if case.rule != 'information' or case.around is Around.ZERO:
        return found
    given = case.coefficients
    first = 1 if case.around is Around.OTHERS else 0
    for unit, index in enumerate(range(first, min(first + case.units, len(case.moments)))):
        moment = case.moments[index]
        excess = given['alpha'] * moment - 2.0 * given['gamma']
        found[index, unit] = np.sqrt(max(excess, 0.0) / (2.0 * given['beta'] * moment))
    return found


def _mirror_at_rest(C: Array, W: Array, given: Given) -> Array:
    return given['beta'] / (2.0 * given['alpha']) * C @ W


def _information_at_rest(C: Array, W: Array, given: Given) -> Array:
    return np.linalg.solve(_shrinking(C, W, given), given['alpha'] * (C @ W).T).T


def _shrinking(C: Array, W: Array, given: Given) -> Array:
    """Returns what information multiplies B by from the right, [units, units]."""
    return 2.0 * given['beta'] * W.T @ C @ W + 2.0 * given['gamma'] * np.eye(W.shape[1])


def _mirror_alone(C: Array, W: Array, given: Given) -> Array:
    del C
    return 2.0 * given['alpha'] * np.eye(W.size)


def _information_alone(C: Array, W: Array, given: Given) -> Array:
    return np.kron(np.eye(W.shape[0]), _shrinking(C, W, given))


def _mirror_moving(C: Array, W: Array, given: Given) -> Array:
    own = 2.0 * given['alpha'] * np.eye(W.size)
    other = -given['beta'] * np.kron(C, np.eye(W.shape[1]))
    return np.block([[own, other], [other, own]])


def _information_moving(C: Array, W: Array, given: Given) -> Array:
    """Returns J at W = B, from np.kron(P, Q.T) for a map K -> P K Q of a kernel.

    The first part is dB as a function of a small b and w, the second one dW.
    """
    (inputs, units), beta = W.shape, given['beta']
    b_to_dB = np.kron(np.eye(inputs), _shrinking(C, W, given))
    w_to_dB = 2.0 * beta * (
        np.kron(W, (C @ W).T) @ _transposing(inputs, units) + np.kron(W @ W.T @ C, np.eye(units))
    ) - given['alpha'] * np.kron(C, np.eye(units))
    w_to_dW = 2.0 * beta * np.kron(C, W.T @ W) + 2.0 * given['gamma'] * np.eye(W.size)
    return np.block([[b_to_dB, w_to_dB], [w_to_dB.T, w_to_dW]])


def _transposing(rows: int, columns: int) -> Array:
    """Returns the matrix that takes a kernel [rows, columns], as a vector, to its transpose."""
    order = np.arange(rows * columns).reshape(rows, columns).T.ravel()
    return np.eye(rows * columns)[order]


Matrix = Callable[[Array, Array, Given], Array]
RESTING: Dict[str, Matrix] = {'mirror': _mirror_at_rest, 'information': _information_at_rest}
ALONE: Dict[str, Matrix] = {'mirror': _mirror_alone, 'information': _information_alone}
MOVING: Dict[str, Matrix] = {'mirror': _mirror_moving, 'information': _information_moving}


def largest_step(eigenvalues: Array) -> Optional[float]:
    """Returns the step above which a mode grows from step to step; None if one grows anyway.

    A mode is multiplied by 1 - step * eigenvalue in each step, so the limit is 2 over the largest
    eigenvalue.
    """
    largest = float(np.max(eigenvalues))
    is_growing = np.min(eigenvalues) < -ZERO_RATE * max(largest, 0.0) or largest <= 0.0
    return None if is_growing else 2.0 / largest


class Predicted(NamedTuple):
    """What the linear system says of a case.

    Attributes:
        verdict: Whether it is stable.
        factor: The multiplier of the mode that dominates at last: of one step, or of one unit of
            time if time is continuous.
        step: The step that a simulation takes.
        steps: How many steps it takes.
        distances: The distance from the fixed point after each of them, over that at the start,
            [steps + 1].
    """

    verdict: Verdict
    factor: float
    step: float
    steps: int
    distances: Array


def start(case: Case, seed: int = 1) -> Array:
    """Returns a random direction to start in, of length 1, [state]."""
    size = len(case.moments) * case.units * (2 if case.moves else 1)
    found = np.random.RandomState(seed).normal(size=size)
    return found / np.linalg.norm(found)


def predict(case: Case, step: Optional[float]) -> Predicted:
    """Returns what the linear system says of a case.

    Args:
        case: The case.
        step: The learning rate, or None for continuous time.
    """
    eigenvalues, modes = np.linalg.eigh(layer(case).J)
    smallest = ZERO_RATE * np.max(np.abs(eigenvalues))
    eigenvalues[np.abs(eigenvalues) < smallest] = 0.0
    taken = FINE / float(np.max(np.abs(eigenvalues))) if step is None else step
    if step is None:
        rates = -eigenvalues
        signs = np.ones_like(rates)
    else:
        rates = np.log(np.maximum(np.abs(1.0 - step * eigenvalues), 1e-300)) / step
        signs = np.sign(1.0 - step * eigenvalues)
    rates[np.abs(rates) < smallest] = 0.0
    fastest = float(np.max(rates))
    follow = fastest if fastest > 0.0 else float(-np.max(rates[rates < 0.0]))
    steps = min(MOST_STEPS, int(np.ceil(FOLDS[fastest > 0.0] / (follow * taken))))
    at = modes.T @ start(case)
    times = np.arange(steps + 1)[:, np.newaxis]
    distances = np.linalg.norm(at * np.exp(rates * taken * times), axis=1)
    verdict = Verdict.STABLE if fastest < 0.0 else Verdict.NEUTRAL
    if fastest > 0.0:
        verdict = Verdict.UNSTABLE
    index = int(np.argmax(rates))
    factor = float(signs[index] * np.exp(fastest * (1.0 if step is None else step)))
    return Predicted(verdict, factor, taken, steps, distances)


def inputs(C: Array, seed: int = 2) -> Array:
    """Returns a batch x, float32 [IMAGES, in], whose second moment x^T x / IMAGES is C."""
    values, directions = np.linalg.eigh(C)
    found = np.random.RandomState(seed).normal(size=(IMAGES, len(C)))
    orthonormal = np.linalg.qr(found)[0]
    scale = np.sqrt(IMAGES * np.maximum(values, 0.0))
    return ((orthonormal * scale) @ directions.T).astype(np.float32)


def simulate(case: Case, step: float, steps: int) -> Array:
    """Trains a layer of this program by its rule; returns the distances, [steps + 1].

    The layer is a graph of TensorFlow in float32, with the loss and the gradient of the class in
    alignment/rules.py, and gradient descent. It starts near the fixed point. A distance is divided
    by the one at the start.

    Args:
        case: The case.
        step: The learning rate.
        steps: The number of steps.
    """
    is_linear = case.rule == 'mirror' or not case.moves
    known, direction = layer(case), START[is_linear] * start(case)
    size = known.B.size
    starts = [known.B + direction[:size].reshape(known.B.shape), known.W]
    if case.moves:
        starts[1] = known.W + direction[size:].reshape(known.W.shape)
    goals = [known.B] + ([known.W] if case.moves else [])
    with tf.Graph().as_default(), tf.Session() as session:
        kernels = [tf.Variable(each.astype(np.float32)) for each in starts]
        moving = kernels if case.moves else kernels[:1]
        gradients = tf.gradients(_loss(case, known.C, *kernels), moving)
        with tf.control_dependencies(gradients):
            update = tf.group(
                *(tf.assign_sub(k, np.float32(step) * g) for k, g in zip(moving, gradients))
            )
        session.run(tf.global_variables_initializer())
        found = [_distance(session.run(moving), goals)]
        for _ in range(steps):
            session.run(update)
            found.append(_distance(session.run(moving), goals))
    return np.array(found) / found[0]


def _loss(case: Case, C: Array, B: tf.Variable, W: tf.Variable) -> tf.Tensor:
    x = tf.constant(inputs(C))
    y = tf.matmul(x, W)
    record = LayerRecord('linear', Dense(), W, B, None, x, y, y, None)
    given: Dict[str, object] = dict(case.coefficients)
    rule = rules.RULES[case.rule](ViewOptions(update_forward=case.moves), None, 0, **given)
    return tf.add_n(list(rule.losses([record]).values()))


def _distance(kernels: Sequence[Array], goals: List[Array]) -> float:
    differences = [(kernel - goal).ravel() for kernel, goal in zip(kernels, goals)]
    return float(np.linalg.norm(np.concatenate(differences)))


def verdict(distances: Array) -> Verdict:
    """Returns the verdict that the distances of a simulation show, in their second half."""
    change = distances[-1] / distances[len(distances) // 2]
    if change > CHANGE:
        return Verdict.UNSTABLE
    return Verdict.STABLE if change < 1.0 / CHANGE else Verdict.NEUTRAL
