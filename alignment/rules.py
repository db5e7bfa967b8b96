"""The alignment rules: how a layer's backward kernel B comes to help its forward kernel W learn.
One class a rule.

To add a rule, add a class: a name, its coefficients with their defaults, and its loss (or, where B
is made of W and not learned, its backward kernel). It is found by itself, and so are the settings
that it declares (alignment/declarations.py).
W, B, Wx, Bx, BWx, WBx are those of alignment/view.py; the terms are those of
alignment/primitives.py.
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
from alignment.primitives import amp, decay, inner, null, sparse, square
from alignment.primitives import self as self_product

T = TypeVar('T')


class ClosedForm(NamedTuple):
    """A loss, a scalar, and its gradient with respect to B as [(factor, tensor shaped like B)], of
    which it is the sum.
    """

    loss: tf.Tensor
    dB: List[Tuple[Scalar, tf.Tensor]]


KERNELS = frozenset(['update_forward'])  # what a rule over the kernels alone can see
PROJECTIONS = frozenset(ViewOptions._fields)


class Rule:
    """An alignment rule.

    Arguments are keywords: any of the class's coefficients (a Python number or a float32 scalar
    tensor), any of its switches (bool) and sizes (int), options (ViewOptions), seed (int or None,
    of what the rule draws) and step (int or
    integer scalar tensor, updates done before this one: numbers that are new at every step are
    drawn by it).
    Raises TypeError for any other name.
    """

    name: ClassVar[str]  # its value in --alignment
    # What the class declares, and the defaults of its coefficients (weights of the terms, each of
    # which can have a schedule), of its switches (variants of the formula) and of its sizes (of the
    # kernels that B is made of): they are found by themselves.
    declared: ClassVar[Dict[str, Declaration]] = {}
    coefficients: ClassVar[Dict[str, float]] = {}
    switches: ClassVar[Dict[str, bool]] = {}
    sizes: ClassVar[Dict[str, int]] = {}
    sees: ClassVar[FrozenSet[str]] = frozenset()  # which ViewOptions change its loss
    tie_gradients: ClassVar[bool] = False  # whether B receives W's gradient of the task loss
    has_variable: ClassVar[bool] = True  # whether a layer has a variable for B
    # Whether errors come from the logits straight to each layer, through its variable.
    is_direct: ClassVar[bool] = False
    # Whether its source shows it noise instead of the layer's input.
    on_noise: ClassVar[bool] = False
    options: ViewOptions
    seed: Union[int, str, None]
    step: Number
    automatic: List[str]  # names of the layers whose loss was differentiated automatically

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if {'declared', 'coefficients', 'switches', 'sizes'} & set(vars(cls)):
            raise TypeError(
                f'{cls.__name__} declares its settings one by one: alpha = Coefficient(1e-3)'
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
                '{} has no {}; it takes {}'.format(
                    self.name, ', '.join(unknown), ', '.join(settings) or 'nothing'
                )
            )
        self.__dict__.update(values)

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        """The alignment loss of one layer (a LayerView): a float32 scalar, or None where the rule
        has none.
        """
        raise NotImplementedError

    def variable_shape(self, shape: List[int], classes: int) -> List[int]:
        """The shape of a layer's variable for B, in W's layout, a list. shape: of W. classes: of
        the network.
        """
        return shape

    def fixed_shape(self, shape: List[int]) -> Optional[List[int]]:
        """The shape [inner, units] of a second, random and fixed matrix that B is made with, or
        None. shape: of W.
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
        """The kernel that a layer's error goes back through, float32, shaped like W. Where it is
        not B itself, no gradient reaches W through it.

        name: of the layer. W: forward kernel, float32. B: the value of the layer's variable,
        float32, of variable_shape, or None
        where the rule has no variable. size: the standard deviation that W starts with, a float;
        None where there is B.
        fixed: the matrix of fixed_shape, float32, or None.
        """
        return B

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """The ClosedForm of `loss`, by fewer operations than automatic differentiation takes, or
        None where there is none.

        (x, y) below is the filter gradient of x and y, averaged over the batch: d/dB mean_b sum(xB
        * y).
        """
        return None

    def losses(
        self, records: List[LayerRecord], closed: bool = True, part: Number = 0
    ) -> Dict[str, tf.Tensor]:
        """The alignment loss of every LayerRecord: {layer name: float32 scalar}.

        closed: take gradients by closed forms where there are; False differentiates every loss
        automatically. Afterwards `automatic` holds the names of the layers whose loss is
        differentiated automatically.
        part: which part of the step's batch the records' images are, an int or int32 scalar; each
        has its own noise.
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
    """{name: default} of what a rule declares of one kind."""
    found = {name: getattr(rule, name) for name in rule.declared}
    return {name: each.default for name, each in found.items() if isinstance(each, kind)}


def _is_twice(one: Scalar, other: Scalar) -> bool:
    """Whether two coefficients are numbers (no schedule), and the first is twice the second."""
    return isinstance(one, float) and isinstance(other, float) and one == 2.0 * other


class Feedback(Rule):
    """Feedback alignment: B is random and stays as it is; W learns to live with it. Loss 0.

    Source: Lillicrap et al. 2016 (doi:10.1038/ncomms13276).
    """

    name = 'feedback'

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        return None


class Symmetric(Rule):
    """Symmetric alignment: alpha (|W|^2 + |B|^2) - beta sum(W * B). At beta = 2 alpha its minimum
    over B is B = W.

    Source: Kunin et al. 2020 (arXiv:2003.01513).
    """

    name = 'symmetric'
    alpha = Coefficient(1e-3)
    beta = Coefficient(2e-3)
    sees = KERNELS

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        return self.alpha * decay(layer.W, layer.B) + self.beta * self_product(layer.W, layer.B)

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """dB = 2 alpha B - beta W. At beta = 2 alpha the loss is alpha |B - W|^2."""
        if not layer.is_linear:
            return None
        if not _is_twice(self.beta, self.alpha):
            return ClosedForm(
                self.loss(layer), [(2.0 * self.alpha, layer.B), (-self.beta, layer.W)]
            )
        difference = layer.B - layer.W
        return ClosedForm(self.alpha * square(difference), [(2.0 * self.alpha, difference)])


class Activation(Rule):
    """Activation alignment: alpha (|Wx|^2 + |Bx|^2) - beta sum(Wx * Bx). At beta = 2 alpha its
    minimum is Bx = Wx.

    Source: Kunin et al. 2020 (arXiv:2003.01513).
    """

    name = 'activation'
    alpha = Coefficient(1e-3)
    beta = Coefficient(2e-3)
    sees = PROJECTIONS

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        return self.alpha * sparse(layer.Wx, layer.Bx) + self.beta * amp(layer.Wx, layer.Bx)

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """dB = (x, 2 alpha Bx - beta Wx). At beta = 2 alpha, with D = B - W, dB = 2 alpha (x, xD),
        and the loss is alpha |xD|^2 = alpha sum(D * (x, xD))."""
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
    """Weight mirror: alpha (|W|^2 + |B|^2) - beta mean_b sum(Wx * Bx). Meant for noise as the input
    x.

    Source: Akrout et al. 2019 (arXiv:1904.05391), as a sum of primitives: Kunin et al. 2020
    (arXiv:2003.01513).
    """

    name = 'mirror'
    alpha = Coefficient(1e-3)
    beta = Coefficient(1e-3)
    sees = PROJECTIONS
    on_noise = True

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        return self.alpha * decay(layer.W, layer.B) + self.beta * amp(layer.Wx, layer.Bx)

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """dB = 2 alpha B - beta (x, Wx), and mean_b sum(Wx * xB) = sum(B * (x, Wx)): no projection
        through B is made.
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
    """Information alignment: -alpha mean_b sum(Wx * Bx) + beta |B(Wx)|^2 + gamma (|W|^2 + |B|^2).

    reconstruction_reversal: W(Bx) is the reconstruction, not B(Wx). reconstruction_amp: the first
    term compares x with
    the reconstruction. use_sparse: the last term is |Wx|^2 + |Bx|^2.
    Source: Kunin et al. 2020 (arXiv:2003.01513).
    """

    name = 'information'
    alpha = Coefficient(2e-3)
    beta = Coefficient(1e-3)
    gamma = Coefficient(1e-3)
    reconstruction_reversal = Switch(False, 'reconstruct the input as W(Bx), not B(Wx)')
    reconstruction_amp = Switch(False, 'compare the input with its reconstruction, not Wx with Bx')
    use_sparse = Switch(False, 'penalise the projections |Wx|^2 + |Bx|^2, not the kernels')
    sees = PROJECTIONS

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        reconstruction = layer.WBx if self.reconstruction_reversal else layer.BWx
        similarity = (
            amp(layer.x, reconstruction) if self.reconstruction_amp else amp(layer.Wx, layer.Bx)
        )
        size = sparse(layer.Wx, layer.Bx) if self.use_sparse else decay(layer.W, layer.B)
        return self.alpha * similarity + self.beta * null(reconstruction) + self.gamma * size

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """With r = B(Wx): dB = (2 beta r - alpha x, Wx) + 2 gamma B, from one reconstruction and
        one filter gradient.

        sum(B * (r, Wx)) = |r|^2, so sum(B * (2 beta r - alpha x, Wx)) = 2 beta |r|^2 - alpha mean_b
        sum(Wx * xB) gives the loss without a projection through B. reconstruction_amp changes the
        loss by the bias alone: sum(x * B(Wx)) is sum(Wx * xB).
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
        ):  # the same, one pass over the activities less: 2 beta (r - x)
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
    """Kolen-Pollack: B receives W's gradient and both decay, alpha (|W|^2 + |B|^2), so that they
    grow alike.

    Source: Kolen & Pollack 1994; Akrout et al. 2019 (arXiv:1904.05391).
    """

    name = 'kolen_pollack'
    alpha = Coefficient(1e-3)
    sees = KERNELS
    tie_gradients = True

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        return self.alpha * decay(layer.W, layer.B)

    def closed_form(self, layer: LayerView) -> Optional[ClosedForm]:
        """dB = 2 alpha B."""
        return (
            ClosedForm(self.loss(layer), [(2.0 * self.alpha, layer.B)]) if layer.is_linear else None
        )


class ProductFeedback(Rule):
    """Product feedback alignment, PFA: errors go back by two steps, B = R P. P, [expansion units,
    units], is random and fixed; R is learned: it receives the task gradient as it comes through P,
    dR = dW P^T, and decays like W, alpha (|W|^2 + |R|^2). R grows like W P^T, hence B like W P^T P,
    the nearer to W the larger `expansion`; neither factor comes to have the weights of the way
    forth.

    P has mean 0 and variance 1 / (expansion units), so that P^T P is around 1.
    Source: Li & Benna 2024 (arXiv:2405.20594), who call P B, and B R B.
    """

    name = 'pfa'
    alpha = Coefficient(1e-3)
    expansion = Size(
        10, "neurons that a layer's error passes on its way back, over the layer's units"
    )
    sees = KERNELS
    tie_gradients = True

    def variable_shape(self, shape: List[int], classes: int) -> List[int]:
        """Of R: [in, inner] or [height, width, in, inner]."""
        return shape[:-1] + [self.expansion * shape[-1]]

    def fixed_shape(self, shape: List[int]) -> Optional[List[int]]:
        """Of P."""
        return [self.expansion * shape[-1], shape[-1]]

    def backward_kernel(
        self,
        name: str,
        W: tf.Tensor,
        B: Optional[tf.Tensor],
        size: Optional[float],
        fixed: Optional[tf.Tensor] = None,
    ) -> tf.Tensor:
        return tf.tensordot(B, fixed, axes=1)

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        return self.alpha * decay(layer.W, layer.R)


class DirectFeedback(Rule):
    """Direct feedback alignment, DFA: the error e at the logits goes straight to the input of every
    layer, dx = e B^T, with B, [in, classes], random and fixed. No loss.

    At a convolution, B [height, width, in, classes], each of the n output positions sends e / n
    back, as if the positions were
    averaged: the paper's B, from the classes to every pixel of a feature map, would not fit into
    memory on ImageNet.
    Source: Nokland 2016 (arXiv:1609.01596); one B for all positions as in BioTorch
    (github.com/jsalbert/biotorch).
    """

    name = 'dfa'
    is_direct = True

    def variable_shape(self, shape: List[int], classes: int) -> List[int]:
        """[in, classes] or [height, width, in, classes]."""
        return shape[:-1] + [classes]

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        return None


class UniformSigns(Rule):
    """Uniform sign-concordant feedback, uSF: B = s sign(W), with s the standard deviation that W
    starts with. No loss.

    Source: Liao, Leibo & Poggio 2016 (arXiv:1510.05067); on ImageNet: Xiao et al. 2018
    (arXiv:1811.03567); as one of three,
    uSF, frSF and brSF: Moskovitz, Litwin-Kumar & Abbott 2018 (arXiv:1812.06488).
    """

    name = 'usf'
    has_variable = False

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        return None

    def backward_kernel(
        self,
        name: str,
        W: tf.Tensor,
        B: Optional[tf.Tensor],
        size: Optional[float],
        fixed: Optional[tf.Tensor] = None,
    ) -> tf.Tensor:
        return _concordant(size, W)


class FixedMagnitudes(Rule):
    """Sign-concordant feedback of fixed random magnitude, frSF: |M| sign(W). M starts as W does and
    stays. No loss.

    Source: Liao, Leibo & Poggio 2016 (arXiv:1510.05067); Moskovitz, Litwin-Kumar & Abbott 2018
    (arXiv:1812.06488).
    """

    name = 'frsf'

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        return None

    def backward_kernel(
        self,
        name: str,
        W: tf.Tensor,
        B: Optional[tf.Tensor],
        size: Optional[float],
        fixed: Optional[tf.Tensor] = None,
    ) -> tf.Tensor:
        return _concordant(tf.abs(B), W)


class RedrawnMagnitudes(Rule):
    """Sign-concordant feedback of batchwise random magnitude, brSF: |M| sign(W), with M drawn anew
    at every step. No loss.

    |M| is uniform from 0 to sqrt(3) s, so that its mean square is s^2, with s the standard
    deviation that W starts with. The
    draw depends on seed, step and the layer's name alone: all parts of a batch have the same, and
    so has a resumed run.
    Source: Liao, Leibo & Poggio 2016 (arXiv:1510.05067); Moskovitz, Litwin-Kumar & Abbott 2018
    (arXiv:1812.06488).
    """

    name = 'brsf'
    has_variable = False

    def loss(self, layer: LayerView) -> Optional[tf.Tensor]:
        return None

    def backward_kernel(
        self,
        name: str,
        W: tf.Tensor,
        B: Optional[tf.Tensor],
        size: Optional[float],
        fixed: Optional[tf.Tensor] = None,
    ) -> tf.Tensor:
        seed = step_seed(seed_of(self.seed, name), self.step)
        return _concordant(
            tf.random.stateless_uniform(W.shape, seed, maxval=math.sqrt(3.0) * cast(float, size)), W
        )


def _concordant(magnitude: Scalar, W: tf.Tensor) -> tf.Tensor:
    """A kernel with the signs of W (0 where W is 0), through which no gradient reaches anything."""
    return tf.stop_gradient(magnitude * tf.sign(W))


RULES = {rule.name: rule for rule in Rule.__subclasses__()}


# What every rule has; no setting of a rule may be called so.
NAMES: FrozenSet[str] = frozenset(dir(Rule)) | frozenset(Rule.__annotations__)


def declarations() -> Mapping[str, Mapping[str, Declaration]]:
    """{rule: {name: Declaration}}: the settings that the rules declare, plain data."""
    return {name: rule.declared for name, rule in RULES.items()}
