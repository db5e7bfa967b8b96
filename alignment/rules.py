"""The alignment rules: how a layer's backward kernel B comes to help its forward kernel W learn.
One class a rule.

To add a rule, add a class: a name, its coefficients with their defaults, and its loss (or, where B
is made of W and not learned, its backward kernel). It is found by itself.
W, B, Wx, Bx, BWx, WBx are those of alignment/view.py; the terms are those of
alignment/primitives.py.
"""

import collections
import math

import tensorflow.compat.v1 as tf

from alignment.draws import seed_of, step_seed
from alignment.gradients import with_gradient
from alignment.view import LayerView, ViewOptions
from alignment.primitives import amp, decay, inner, null, sparse, square
from alignment.primitives import self as self_product

# A loss, a scalar, and its gradient with respect to B as [(factor, tensor shaped like B)], of which
# it is the sum.
ClosedForm = collections.namedtuple('ClosedForm', ['loss', 'dB'])

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

    name = None  # its value in --alignment
    coefficients = {}  # name -> default: weights of the terms, each of which can have a schedule
    switches = {}  # name -> default: variants of the formula
    sizes = {}  # name -> default, an int: of the kernels that B is made of
    sees = frozenset()  # which ViewOptions change its loss
    tie_gradients = False  # whether B receives W's gradient of the task loss
    has_variable = True  # whether a layer has a variable for B
    is_direct = (
        False  # whether errors come from the logits straight to each layer, through its variable
    )

    def __init__(self, options=ViewOptions(), seed=None, step=0, **values):
        self.options = options
        self.seed = seed
        self.step = step
        self.automatic = []
        settings = dict(self.coefficients, **self.switches, **self.sizes)
        unknown = sorted(set(values) - set(settings))
        if unknown:
            raise TypeError(
                '{} has no {}; it takes {}'.format(
                    self.name, ', '.join(unknown), ', '.join(settings) or 'nothing'
                )
            )
        self.__dict__.update(settings, **values)

    def loss(self, layer):
        """The alignment loss of one layer (a LayerView): a float32 scalar, or None where the rule
        has none.
        """
        raise NotImplementedError

    def variable_shape(self, shape, classes):
        """The shape of a layer's variable for B, in W's layout, a list. shape: of W. classes: of
        the network.
        """
        return shape

    def fixed_shape(self, shape):
        """The shape [inner, units] of a second, random and fixed matrix that B is made with, or
        None. shape: of W.
        """
        return None

    def backward_kernel(self, name, W, B, size, fixed=None):
        """The kernel that a layer's error goes back through, float32, shaped like W. Where it is
        not B itself, no gradient reaches W through it.

        name: of the layer. W: forward kernel, float32. B: the value of the layer's variable,
        float32, of variable_shape, or None
        where the rule has no variable. size: the standard deviation that W starts with, a float;
        None where there is B.
        fixed: the matrix of fixed_shape, float32, or None.
        """
        return B

    def closed_form(self, layer):
        """The ClosedForm of `loss`, by fewer operations than automatic differentiation takes, or
        None where there is none.

        (x, y) below is the filter gradient of x and y, averaged over the batch: d/dB mean_b sum(xB
        * y).
        """
        return None

    def losses(self, records, closed=True, part=0):
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

    @property
    def beta_is_twice_alpha(self):
        """Whether the two coefficients are numbers (no schedule) of which one is twice the other."""
        return (
            isinstance(self.alpha, float)
            and isinstance(self.beta, float)
            and self.beta == 2.0 * self.alpha
        )

    @property
    def alpha_is_twice_beta(self):
        """The same, the other way round."""
        return (
            isinstance(self.alpha, float)
            and isinstance(self.beta, float)
            and self.alpha == 2.0 * self.beta
        )

    def _loss(self, layer, closed):
        form = self.closed_form(layer) if closed else None
        if form is not None:
            return with_gradient(form.loss, layer.B, form.dB)
        self.automatic.append(layer.name)
        return self.loss(layer)


class Feedback(Rule):
    """Feedback alignment: B is random and stays as it is; W learns to live with it. Loss 0.

    Source: Lillicrap et al. 2016 (doi:10.1038/ncomms13276).
    """

    name = 'feedback'

    def loss(self, layer):
        return None


class Symmetric(Rule):
    """Symmetric alignment: alpha (|W|^2 + |B|^2) - beta sum(W * B). At beta = 2 alpha its minimum
    over B is B = W.

    Source: Kunin et al. 2020 (arXiv:2003.01513).
    """

    name = 'symmetric'
    coefficients = dict(alpha=1e-3, beta=2e-3)
    sees = KERNELS

    def loss(self, layer):
        return self.alpha * decay(layer.W, layer.B) + self.beta * self_product(layer.W, layer.B)

    def closed_form(self, layer):
        """dB = 2 alpha B - beta W. At beta = 2 alpha the loss is alpha |B - W|^2."""
        if not layer.is_linear:
            return None
        if not self.beta_is_twice_alpha:
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
    coefficients = dict(alpha=1e-3, beta=2e-3)
    sees = PROJECTIONS

    def loss(self, layer):
        return self.alpha * sparse(layer.Wx, layer.Bx) + self.beta * amp(layer.Wx, layer.Bx)

    def closed_form(self, layer):
        """dB = (x, 2 alpha Bx - beta Wx). At beta = 2 alpha, with D = B - W, dB = 2 alpha (x, xD),
        and the loss is alpha |xD|^2 = alpha sum(D * (x, xD))."""
        if not layer.is_linear:
            return None
        if layer.is_plain and self.beta_is_twice_alpha:
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
    coefficients = dict(alpha=1e-3, beta=1e-3)
    sees = PROJECTIONS

    def loss(self, layer):
        return self.alpha * decay(layer.W, layer.B) + self.beta * amp(layer.Wx, layer.Bx)

    def closed_form(self, layer):
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
    coefficients = dict(alpha=2e-3, beta=1e-3, gamma=1e-3)
    switches = dict(reconstruction_reversal=False, reconstruction_amp=False, use_sparse=False)
    sees = PROJECTIONS

    def loss(self, layer):
        reconstruction = layer.WBx if self.reconstruction_reversal else layer.BWx
        similarity = (
            amp(layer.x, reconstruction) if self.reconstruction_amp else amp(layer.Wx, layer.Bx)
        )
        size = sparse(layer.Wx, layer.Bx) if self.use_sparse else decay(layer.W, layer.B)
        return self.alpha * similarity + self.beta * null(reconstruction) + self.gamma * size

    def closed_form(self, layer):
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
        if self.alpha_is_twice_beta:  # the same, one pass over the activities less: 2 beta (r - x)
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
    coefficients = dict(alpha=1e-3)
    sees = KERNELS
    tie_gradients = True

    def loss(self, layer):
        return self.alpha * decay(layer.W, layer.B)

    def closed_form(self, layer):
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
    coefficients = dict(alpha=1e-3)
    sizes = dict(expansion=10)
    sees = KERNELS
    tie_gradients = True

    def variable_shape(self, shape, classes):
        """Of R: [in, inner] or [height, width, in, inner]."""
        return shape[:-1] + [self.expansion * shape[-1]]

    def fixed_shape(self, shape):
        """Of P."""
        return [self.expansion * shape[-1], shape[-1]]

    def backward_kernel(self, name, W, B, size, fixed=None):
        return tf.tensordot(B, fixed, axes=1)

    def loss(self, layer):
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

    def variable_shape(self, shape, classes):
        """[in, classes] or [height, width, in, classes]."""
        return shape[:-1] + [classes]

    def loss(self, layer):
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

    def loss(self, layer):
        return None

    def backward_kernel(self, name, W, B, size, fixed=None):
        return _concordant(size, W)


class FixedMagnitudes(Rule):
    """Sign-concordant feedback of fixed random magnitude, frSF: |M| sign(W). M starts as W does and
    stays. No loss.

    Source: Liao, Leibo & Poggio 2016 (arXiv:1510.05067); Moskovitz, Litwin-Kumar & Abbott 2018
    (arXiv:1812.06488).
    """

    name = 'frsf'

    def loss(self, layer):
        return None

    def backward_kernel(self, name, W, B, size, fixed=None):
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

    def loss(self, layer):
        return None

    def backward_kernel(self, name, W, B, size, fixed=None):
        seed = step_seed(seed_of(self.seed, name), self.step)
        return _concordant(
            tf.random.stateless_uniform(W.shape, seed, maxval=math.sqrt(3.0) * size), W
        )


def _concordant(magnitude, W):
    """A kernel with the signs of W (0 where W is 0), through which no gradient reaches anything."""
    return tf.stop_gradient(magnitude * tf.sign(W))


RULES = {rule.name: rule for rule in Rule.__subclasses__()}
