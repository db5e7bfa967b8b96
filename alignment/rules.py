"""The alignment rules: how each layer gets its backward kernel B. One class is one rule.

To add a rule, add a class with a name, coefficients with their defaults, and a loss (or, if B is
computed from W instead of learned, a backward kernel). The class is registered automatically, and
so are the settings that it declares (alignment/declarations.py).

Symbols in this module:

- W, B: the forward and backward kernel of a layer. Both are float32 [in, units] in dense layers and
  [height, width, in, filters] in convolutions.
- x: the layer's input, [batch, ...]. Wx and Bx are its projections through W and B, [batch, ...,
  units]. BWx = B(Wx) and WBx = W(Bx) are reconstructions of x, with the shape of x.
- |.|^2 is a sum of squares, * an elementwise product, and sum(...) a sum over all elements. Terms
  of activities are averaged over the batch.

alignment/view.py computes these symbols, and alignment/primitives.py the terms of the losses.

A rule is local if the update of a weight of B only uses what is available at its two neurons: the
activities and errors of the layer, and B itself.
"""

import math
from typing import (
    ClassVar,
    Dict,
    FrozenSet,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    cast,
)

import tensorflow.compat.v1 as tf

from alignment.declarations import Coefficient, Declaration, Declared, Size, Switch
from alignment.draws import Number, seed_of, step_seed
from alignment.gradients import Scalar, with_gradient
from alignment.view import LayerRecord, LayerView, ViewOptions
from alignment.primitives import amp, decay, inner, kernel_product, null, sparse, square

T = TypeVar('T')


class ClosedForm(NamedTuple):
    """A loss and its gradient with respect to B, as formulas.

    Attributes:
        loss: A float32 scalar.
        dB: [(factor, tensor with the shape of B)]. The gradient is the sum of factor * tensor.
    """

    loss: tf.Tensor
    dB: List[Tuple[Scalar, tf.Tensor]]


# The ViewOptions that can change the loss of a rule: of one that only uses kernels, and of others.
KERNELS = frozenset(['update_forward'])
PROJECTIONS = frozenset(ViewOptions._fields)


class Rule:
    """An alignment rule. All arguments are keyword arguments.

    A class that inherits from Rule sets some of the class attributes below. `declared`,
    `coefficients`, `switches` and `sizes` are collected from its declarations automatically.

    Args:
        options: What the rule sees of a layer.
        seed: The seed of everything that the rule draws, or None.
        step: The number of updates done before this one, an int or an integer scalar tensor.
            Numbers that are drawn again at every step depend on it.
        **values: Values of the settings that the class declares: coefficients (a Python number or a
            float32 scalar tensor), switches (bool) and sizes (int). The others keep their defaults.

    Raises:
        TypeError: A keyword is not a setting of this rule.

    Attributes:
        name: The value of --alignment that selects the rule.
        declared: All settings that the class declares.
        coefficients: The default of each coefficient. Each can follow a schedule.
        switches: The default of each switch, a variant of the formula.
        sizes: The default of each size of the kernels that B is computed from.
        sees: The ViewOptions that change the loss.
        tie_gradients: Whether B receives the task gradient of W.
        has_variable: Whether a layer has a variable for B.
        is_direct: Whether the error of the logits goes directly to each layer, through its
            variable.
        on_noise: Whether the source of the rule uses noise in place of the layer's input.
        automatic: The names of the layers whose loss was differentiated automatically.
    """

    name: ClassVar[str]
    declared: ClassVar[Dict[str, Declaration]] = {}
    coefficients: ClassVar[Dict[str, float]] = {}
    switches: ClassVar[Dict[str, bool]] = {}
    sizes: ClassVar[Dict[str, int]] = {}
    sees: ClassVar[FrozenSet[str]] = frozenset()
    tie_gradients: ClassVar[bool] = False
    has_variable: ClassVar[bool] = True
    is_direct: ClassVar[bool] = False
    on_noise: ClassVar[bool] = False
    options: ViewOptions
    seed: Union[int, str, None]
    step: Number
    automatic: List[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if {'declared', 'coefficients', 'switches', 'sizes'} & set(vars(cls)):
            raise TypeError(
                f'{cls.__name__} must declare each setting separately: alpha = Coefficient(1e-3)'
            )
        found = {name: value for name, value in vars(cls).items() if isinstance(value, Declared)}
        cls.declared = dict(cls.declared, **{n: each.declaration for n, each in found.items()})
        cls.coefficients = _defaults(cls, Coefficient)
        cls.switches = _defaults(cls, Switch)
        cls.sizes = _defaults(cls, Size)

    def __init__(
        self,
        options: ViewOptions = ViewOptions(),
        seed: Union[int, str, None] = None,
        step: Number = 0,
        **values: object,
    ) -> None:
        self.options = options
        self.seed = seed
        self.step = step
        self.automatic = []
        unknown = sorted(set(values) - set(self.declared))
        if unknown:
            settings = [*self.coefficients, *self.switches, *self.sizes]
            raise TypeError(
                f'{self.name} has no {", ".join(unknown)}; '
                f'its settings are: {", ".join(settings) or "none"}'
            )
        self.__dict__.update(values)

    @property
    def sends_whole_error(self) -> bool:
        """Whether direct feedback sends the undivided error to every position of a convolution."""
        return False

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns the loss of one layer, a float32 scalar, or None if the rule has no loss."""
        raise NotImplementedError

    def variable_shape(self, shape: List[int], classes: int) -> List[int]:
        """Returns the shape of a layer's variable for B, in the layout of W.

        Args:
            shape: The shape of W.
            classes: The number of classes of the network.
        """
        return shape

    def fixed_shape(self, shape: List[int]) -> Optional[List[int]]:
        """Returns the shape [inner, units] of a fixed random factor of B, or None if there is none.

        Args:
            shape: The shape of W.
        """
        return None

    def backward_kernel(
        self,
        name: str,
        W: tf.Tensor,
        B: Optional[tf.Tensor],
        size: Optional[float],
        fixed: Optional[tf.Tensor] = None,
    ) -> tf.Tensor:
        """Returns the kernel that a layer's error goes back through, float32, with the shape of W.

        Unless the result is B itself, no gradient reaches W through it.

        Args:
            name: The name of the layer.
            W: The forward kernel, float32.
            B: The value of the layer's variable, float32 of `variable_shape`, or None if the rule
                has no variable.
            size: The initial standard deviation of W. None if there is B.
            fixed: The matrix of `fixed_shape`, float32, or None.
        """
        return B

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """Returns the closed form of `loss`, or None if there is none.

        A closed form takes fewer operations than automatic differentiation. In the formulas of the
        rules, (x, y) stands for the kernel gradient of x and y, averaged over the batch:
        (x, y) = d/dB mean_b sum(xB * y).
        """
        return None

    def losses(
        self, records: List[LayerRecord], closed: bool = True, part: Number = 0
    ) -> Dict[str, tf.Tensor]:
        """Returns the alignment loss of each layer: {layer name: float32 scalar}.

        Afterwards, `automatic` contains the names of the layers whose loss is differentiated
        automatically.

        Args:
            records: The layers.
            closed: Whether to use closed forms where they exist. False differentiates every loss
                automatically.
            part: The part of the step's batch that the records were computed from, an int or an
                int32 scalar. Each part has its own noise.
        """
        self.automatic = []
        losses = {
            record.name: self._loss(
                LayerView(record, self.options, self.seed, self.step, part), closed
            )
            for record in records
        }
        return {name: loss for name, loss in losses.items() if loss is not None}

    def _loss(self, layer: LayerView, closed: bool) -> Optional[tf.Tensor]:
        form = self.closed_form(layer) if closed else None
        if form is not None:
            return with_gradient(form.loss, layer.B, form.dB)
        self.automatic.append(layer.name)
        return self.loss(layer)


def _defaults(rule: Type[Rule], kind: Type[Declared[T]]) -> Dict[str, T]:
    """Returns {name: default} of the settings of one kind that a rule declares."""
    found = {name: getattr(rule, name) for name in rule.declared}
    return {name: each.default for name, each in found.items() if isinstance(each, kind)}


def _is_twice(one: Scalar, other: Scalar) -> bool:
    """Returns whether two coefficients are numbers (no schedule), the first twice the second."""
    return isinstance(one, float) and isinstance(other, float) and one == 2.0 * other


class Feedback(Rule):
    """Feedback alignment: B is random and stays fixed, and W learns to agree with it.

    This rule has no loss. It is local: B never changes.

    Source: Lillicrap et al. 2016 (doi:10.1038/ncomms13276).
    """

    name = 'feedback'

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns None: this rule has no loss."""
        return None


class Symmetric(Rule):
    """Symmetric alignment: turns B towards W, weight by weight.

    Loss::

        alpha (|W|^2 + |B|^2) - beta sum(W * B)

    At beta = 2 alpha, its minimum over B is B = W. The rule is not local: it uses W itself.

    Source: Kunin et al. 2020 (arXiv:2003.01513).
    """

    name = 'symmetric'
    alpha = Coefficient(1e-3)
    beta = Coefficient(2e-3)
    sees = KERNELS

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns alpha (|W|^2 + |B|^2) - beta sum(W * B)."""
        return self.alpha * decay(layer.W, layer.B) + self.beta * kernel_product(layer.W, layer.B)

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """Returns the loss with dB = 2 alpha B - beta W.

        At beta = 2 alpha, the loss is computed as alpha |B - W|^2, which differs only by rounding.
        """
        if not layer.is_linear:
            return None
        if not _is_twice(self.beta, self.alpha):
            return ClosedForm(
                self.loss(layer), [(2.0 * self.alpha, layer.B), (-self.beta, layer.W)]
            )
        difference = layer.B - layer.W
        return ClosedForm(self.alpha * square(difference), [(2.0 * self.alpha, difference)])


class Activation(Rule):
    """Activation alignment: turns the projection Bx towards Wx.

    Loss::

        alpha (|Wx|^2 + |Bx|^2) - beta sum(Wx * Bx)

    At beta = 2 alpha, its minimum over B is Bx = Wx. The rule is not local: it uses the projection
    Bx, which the network itself does not compute.

    Source: Kunin et al. 2020 (arXiv:2003.01513).
    """

    name = 'activation'
    alpha = Coefficient(1e-3)
    beta = Coefficient(2e-3)
    sees = PROJECTIONS

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns alpha (|Wx|^2 + |Bx|^2) - beta sum(Wx * Bx)."""
        return self.alpha * sparse(layer.Wx, layer.Bx) + self.beta * amp(layer.Wx, layer.Bx)

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """Returns the loss with dB = (x, 2 alpha Bx - beta Wx).

        At beta = 2 alpha, with D = B - W, this is dB = 2 alpha (x, xD), and the loss is
        alpha |xD|^2 = alpha sum(D * (x, xD)).
        """
        if not layer.is_linear:
            return None
        if layer.is_plain and _is_twice(self.beta, self.alpha):
            difference = layer.B - layer.W
            sums, mean = layer.correlate(layer.x, layer.project(difference))
            return ClosedForm(
                self.alpha * mean * inner(difference, sums), [(2.0 * self.alpha * mean, sums)]
            )
        sums, mean = layer.correlate(
            layer.backward_x, 2.0 * self.alpha * layer.Bx - self.beta * layer.Wx
        )
        return ClosedForm(self.loss(layer), [(mean, sums)])


class Mirror(Rule):
    """Weight mirror: turns B towards W by the correlation of the layer's input and output.

    Loss::

        alpha (|W|^2 + |B|^2) - beta mean_b sum(Wx * Bx)

    It is meant for noise as the input x. The rule is local: the gradient uses x, Wx and B.

    Source: Akrout et al. 2019 (arXiv:1904.05391). The formula as a sum of primitives is from Kunin
    et al. 2020 (arXiv:2003.01513).
    """

    name = 'mirror'
    alpha = Coefficient(1e-3)
    beta = Coefficient(1e-3)
    sees = PROJECTIONS
    on_noise = True

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns alpha (|W|^2 + |B|^2) - beta mean_b sum(Wx * Bx)."""
        return self.alpha * decay(layer.W, layer.B) + self.beta * amp(layer.Wx, layer.Bx)

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """Returns the loss with dB = 2 alpha B - beta (x, Wx).

        Because mean_b sum(Wx * xB) = sum(B * (x, Wx)), no projection through B is computed.
        """
        if not layer.is_linear:
            return None
        sums, mean = layer.correlate(layer.backward_x, layer.Wx)
        similarity = mean * inner(layer.B, sums) + layer.bias_overlap()
        return ClosedForm(
            self.alpha * decay(layer.W, layer.B) - self.beta * similarity,
            [(2.0 * self.alpha, layer.B), (-self.beta * mean, sums)],
        )


class Information(Rule):
    """Information alignment: like the weight mirror, with a penalty on the reconstruction of x.

    Loss::

        -alpha mean_b sum(Wx * Bx) + beta |B(Wx)|^2 + gamma (|W|^2 + |B|^2)

    Variants of the loss:

    - reconstruction_reversal: The reconstruction is W(Bx) instead of B(Wx).
    - reconstruction_amp: The first term is -alpha mean_b sum(x * reconstruction).
    - use_sparse: The last term is gamma (|Wx|^2 + |Bx|^2).

    The rule is local with its default switches: the gradient uses x, Wx, B(Wx) and B. With
    reconstruction_reversal or use_sparse, it uses Bx as well, which the network does not compute.

    Source: Kunin et al. 2020 (arXiv:2003.01513).
    """

    name = 'information'
    alpha = Coefficient(2e-3)
    beta = Coefficient(1e-3)
    gamma = Coefficient(1e-3)
    reconstruction_reversal = Switch(False, 'reconstruct the input as W(Bx) instead of B(Wx)')
    reconstruction_amp = Switch(
        False, 'compare the input with its reconstruction instead of Wx with Bx'
    )
    use_sparse = Switch(False, 'penalise |Wx|^2 + |Bx|^2 instead of the kernels')
    sees = PROJECTIONS

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns -alpha mean_b sum(Wx * Bx) + beta |B(Wx)|^2 + gamma (|W|^2 + |B|^2)."""
        reconstruction = layer.WBx if self.reconstruction_reversal else layer.BWx
        similarity = (
            amp(layer.x, reconstruction) if self.reconstruction_amp else amp(layer.Wx, layer.Bx)
        )
        size = sparse(layer.Wx, layer.Bx) if self.use_sparse else decay(layer.W, layer.B)
        return self.alpha * similarity + self.beta * null(reconstruction) + self.gamma * size

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """Returns the loss with dB = (2 beta r - alpha x, Wx) + 2 gamma B, where r = B(Wx).

        This takes one reconstruction and one kernel gradient. The loss needs no projection through
        B, because sum(B * (r, Wx)) = |r|^2 and so
        sum(B * (2 beta r - alpha x, Wx)) = 2 beta |r|^2 - alpha mean_b sum(Wx * xB).
        reconstruction_amp only removes the bias from the loss: sum(x * B(Wx)) = sum(Wx * xB).
        There is no closed form with reconstruction_reversal or use_sparse.
        """
        if (
            not (layer.is_linear and layer.reconstructs_linearly)
            or self.reconstruction_reversal
            or self.use_sparse
        ):
            return None
        x = layer.x if self.reconstruction_amp else layer.backward_x
        if _is_twice(
            self.alpha, self.beta
        ):  # 2 beta (r - x) is the same, with one pass over the activities less
            sums, mean = layer.correlate(layer.BWx - x, layer.Wx)
            mean *= 2.0 * self.beta
        else:
            sums, mean = layer.correlate(2.0 * self.beta * layer.BWx - self.alpha * x, layer.Wx)
        loss = (
            mean * inner(layer.B, sums)
            - self.beta * null(layer.BWx)
            + self.gamma * decay(layer.W, layer.B)
        )
        if not self.reconstruction_amp:
            loss -= self.alpha * layer.bias_overlap()
        return ClosedForm(loss, [(mean, sums), (2.0 * self.gamma, layer.B)])


class KolenPollack(Rule):
    """Kolen-Pollack: B receives the task gradient of W, and weight decay makes B and W converge.

    Loss::

        alpha (|W|^2 + |B|^2)

    Total gradient of B::

        dB = x^T dy + 2 alpha B

    W is decayed in the same way only with update_forward. The rule is local: the update of B does
    not use the values of W.

    Source: Kolen & Pollack 1994; Akrout et al. 2019 (arXiv:1904.05391).
    """

    name = 'kolen_pollack'
    alpha = Coefficient(1e-3)
    sees = KERNELS
    tie_gradients = True

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns alpha (|W|^2 + |B|^2)."""
        return self.alpha * decay(layer.W, layer.B)

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """Returns the loss with dB = 2 alpha B. `tie_gradients` adds the task gradient."""
        return (
            ClosedForm(self.loss(layer), [(2.0 * self.alpha, layer.B)]) if layer.is_linear else None
        )


class ProductFeedback(Rule):
    """Product feedback alignment (PFA): the error goes back in two steps, through B = R P.

    P is random and fixed. R is learned: it receives the task gradient through P, and it decays.

    Loss::

        alpha (|W|^2 + |R|^2)

    Total gradient of R::

        dR = dW P^T + 2 alpha R

    W is decayed in the same way only with update_forward. R grows like W P^T, hence B grows like W
    P^T P, which is closer to W the larger `expansion` is. Neither factor has the weights of W. The
    rule is local: the update of R does not use the values of W.

    P is [expansion units, units], with mean 0 and variance 1 / (expansion units), so that P^T P is
    close to the identity. R is [in, expansion units] or [height, width, in, expansion units].

    Source: Li & Benna 2024 (arXiv:2405.20594). The paper calls P "B", and B "R B".
    """

    name = 'pfa'
    alpha = Coefficient(1e-3)
    expansion = Size(10, 'number of rows of the fixed kernel P per unit of the layer')
    sees = KERNELS
    tie_gradients = True

    def variable_shape(self, shape: List[int], classes: int) -> List[int]:
        """Returns the shape of R: [in, inner] or [height, width, in, inner]."""
        return shape[:-1] + [self.expansion * shape[-1]]

    def fixed_shape(self, shape: List[int]) -> Optional[List[int]]:
        """Returns the shape of P: [inner, units]."""
        return [self.expansion * shape[-1], shape[-1]]

    def backward_kernel(
        self,
        name: str,
        W: tf.Tensor,
        B: Optional[tf.Tensor],
        size: Optional[float],
        fixed: Optional[tf.Tensor] = None,
    ) -> tf.Tensor:
        """Returns R P."""
        return tf.tensordot(B, fixed, axes=1)

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns alpha (|W|^2 + |R|^2)."""
        return self.alpha * decay(layer.W, layer.R)


class DirectFeedback(Rule):
    """Direct feedback alignment (DFA): each layer receives the error e of the logits directly.

    Input gradient::

        dx = e B^T

    B is [in, classes], random and fixed. This rule has no loss. It is local except for e, which
    each layer receives from the logits.

    At a convolution, B is [height, width, in, classes], and each of the n output positions sends e
    / n back, as if the positions were averaged. With undivided_error, each of them sends e. The
    paper has a separate B from the classes to every pixel of a feature map, which would not fit
    into memory on ImageNet.

    Source: Nokland 2016 (arXiv:1609.01596). One B for all positions is used as in BioTorch
    (github.com/jsalbert/biotorch), which does not divide the error.
    """

    name = 'dfa'
    undivided_error = Switch(
        False,
        'send the whole error back from each output position of a convolution, instead of dividing '
        'it by their number',
    )
    is_direct = True

    @property
    def sends_whole_error(self) -> bool:
        """See Rule.sends_whole_error."""
        return self.undivided_error

    def variable_shape(self, shape: List[int], classes: int) -> List[int]:
        """Returns the shape of B: [in, classes] or [height, width, in, classes]."""
        return shape[:-1] + [classes]

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns None: this rule has no loss."""
        return None


class UniformSigns(Rule):
    """Uniform sign-concordant feedback (uSF): B has the signs of W and one magnitude.

    Backward kernel::

        B = s sign(W)

    s is the initial standard deviation of W. This rule has no loss. It is not local: it uses the
    signs of W.

    Source: Liao, Leibo & Poggio 2016 (arXiv:1510.05067); on ImageNet, Xiao et al. 2018
    (arXiv:1811.03567). Moskovitz, Litwin-Kumar & Abbott 2018 (arXiv:1812.06488) compare uSF, frSF
    and brSF.
    """

    name = 'usf'
    has_variable = False

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns None: this rule has no loss."""
        return None

    def backward_kernel(
        self,
        name: str,
        W: tf.Tensor,
        B: Optional[tf.Tensor],
        size: Optional[float],
        fixed: Optional[tf.Tensor] = None,
    ) -> tf.Tensor:
        """Returns s sign(W)."""
        return _concordant(size, W)


class FixedMagnitudes(Rule):
    """Fixed random-magnitude sign-concordant feedback (frSF): the signs of W, fixed magnitudes.

    Backward kernel::

        B = |M| sign(W)

    M has the shape of W, is drawn from the same distribution as the initial W, and stays fixed.
    This rule has no loss. It is not local: it uses the signs of W.

    Source: Liao, Leibo & Poggio 2016 (arXiv:1510.05067); Moskovitz, Litwin-Kumar & Abbott 2018
    (arXiv:1812.06488).
    """

    name = 'frsf'

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns None: this rule has no loss."""
        return None

    def backward_kernel(
        self,
        name: str,
        W: tf.Tensor,
        B: Optional[tf.Tensor],
        size: Optional[float],
        fixed: Optional[tf.Tensor] = None,
    ) -> tf.Tensor:
        """Returns |M| sign(W), where M is the layer's variable."""
        return _concordant(tf.abs(B), W)


class RedrawnMagnitudes(Rule):
    """Batchwise random-magnitude sign-concordant feedback (brSF): B is drawn at each step.

    Backward kernel::

        B = |M| sign(W)

    |M| has the shape of W and is uniform from 0 to sqrt(3) s, so that its mean square is s^2, where
    s is the initial standard deviation of W. The draw only depends on the seed, the step and the
    name of the layer: all parts of a batch use the same numbers, and so does a resumed run. This
    rule has no loss. It is not local: it uses the signs of W.

    Source: Liao, Leibo & Poggio 2016 (arXiv:1510.05067); Moskovitz, Litwin-Kumar & Abbott 2018
    (arXiv:1812.06488).
    """

    name = 'brsf'
    has_variable = False

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """Returns None: this rule has no loss."""
        return None

    def backward_kernel(
        self,
        name: str,
        W: tf.Tensor,
        B: Optional[tf.Tensor],
        size: Optional[float],
        fixed: Optional[tf.Tensor] = None,
    ) -> tf.Tensor:
        """Returns |M| sign(W), where |M| is drawn for this step."""
        seed = step_seed(seed_of(self.seed, name), self.step)
        return _concordant(
            tf.random.stateless_uniform(W.shape, seed, maxval=math.sqrt(3.0) * cast(float, size)), W
        )


def _concordant(magnitude: Scalar, W: tf.Tensor) -> tf.Tensor:
    """Returns a kernel with the signs of W (0 where W is 0). No gradient passes through it."""
    return tf.stop_gradient(magnitude * tf.sign(W))


RULES = {rule.name: rule for rule in Rule.__subclasses__()}


# The attributes of every rule. No setting of a rule may have one of these names.
NAMES: FrozenSet[str] = frozenset(dir(Rule)) | frozenset(Rule.__annotations__)


def declarations() -> Mapping[str, Mapping[str, Declaration]]:
    """Returns the settings that the rules declare, as plain data: {rule: {name: Declaration}}."""
    return {name: rule.declared for name, rule in RULES.items()}
