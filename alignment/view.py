"""A layer as the network made it (LayerRecord), and what a rule sees of it (LayerView)."""

import math
from typing import Callable, List, NamedTuple, Optional, Tuple, Union

import tensorflow.compat.v1 as tf

from alignment.draws import Number, part_seed, seed_of
from alignment.gradients import Linear, Scalar, known_product
from alignment.primitives import batch_size, inner

ACTIVATIONS = {'sigmoid': tf.sigmoid, 'tanh': tf.tanh, 'relu': tf.nn.relu}


class LayerRecord(NamedTuple):
    """A layer as the network made it.

    Attributes:
        name: its scope in the checkpoint, 'block_group1_0/conv1'; the layer's key in every result.
        linear: its linear map.
        W: forward kernel, float32 [in, units] or [height, width, in, filters].
        B: the kernel that the error goes back through, in W's layout; None under backpropagation
            and direct feedback.
        bias: float32 [units], or None.
        x: input of the linear map (padded, where the layer pads), [batch, ...], of the type that
            is computed in.
        y: x W, without bias, of the same type.
        output: what the layer returns: bias and activation applied.
        activation: the non-linearity that follows, also when it comes after a batch norm; None for
            a linear layer.
        R: what is learned of B, float32: its variable, where B is made of it and shaped otherwise;
            else None.
        direct: the kernel that the logits' error goes back through, [in, classes] or [height,
            width, in, classes], or None.
    """

    name: str
    linear: Linear
    W: tf.Tensor
    B: Optional[tf.Tensor]
    bias: Optional[tf.Tensor]
    x: tf.Tensor
    y: tf.Tensor
    output: tf.Tensor
    activation: Optional[Callable[[tf.Tensor], tf.Tensor]]
    R: Optional[tf.Tensor] = None
    direct: Optional[tf.Tensor] = None


class ViewOptions(NamedTuple):
    """What a rule sees of a layer. The defaults show it the layer's own input, kernels and bias.

    update_forward: the alignment loss moves W, too.
    input_distribution: None (the layer's input), 'uniform' or 'normal' noise of mean 0 and
    input_stddev instead.
    use_bias_forward, use_bias_backward: add the bias to Wx, to Bx.
    activation_forward, activation_backward: apply the layer's non-linearity (or
    activation_fn_override) to Wx, to Bx. center_*: subtract each example's mean. normalize_*:
    center, then divide each example by its norm. batch_center_*: subtract the mean over the batch.
    *_input: the input; *_forward_output: Wx and B(Wx);
    *_backward_output: Bx and W(Bx); *_backward_input: the input that B projects.
    """

    update_forward: bool = False
    input_distribution: Optional[str] = None
    input_stddev: float = 1.0
    use_bias_forward: bool = True
    use_bias_backward: bool = True
    activation_fn_override: Optional[str] = None
    activation_forward: bool = False
    activation_backward: bool = False
    batch_center_backward_input: bool = False
    center_input: bool = False
    normalize_input: bool = False
    batch_center_forward_output: bool = False
    center_forward_output: bool = False
    normalize_forward_output: bool = False
    center_backward_output: bool = False
    normalize_backward_output: bool = False


def center(x: tf.Tensor) -> tf.Tensor:
    """Subtract from each example its mean over all features; x float32 [batch, ...]."""
    return x - tf.reduce_mean(x, axis=_features(x), keepdims=True)


def normalize(x: tf.Tensor) -> tf.Tensor:
    """Center each example, then divide it by its Euclidean norm; x float32 [batch, ...]."""
    return tf.nn.l2_normalize(center(x), axis=_features(x))


def batch_center(x: tf.Tensor) -> tf.Tensor:
    """Subtract the mean over the batch; x float32 [batch, ...]."""
    return x - tf.reduce_mean(x, axis=0, keepdims=True)


def _features(x: tf.Tensor) -> List[int]:
    return list(range(1, x.shape.ndims))


Seed = Callable[[str], tf.Tensor]  # name of a draw -> its seed, int32 [2]


def _uniform(shape: tf.Tensor, stddev: float, seed: Seed) -> tf.Tensor:
    half_width = math.sqrt(3.0) * stddev
    return tf.random.stateless_uniform(
        shape, seed('uniform'), minval=-half_width, maxval=half_width
    )


def _normal(shape: tf.Tensor, stddev: float, seed: Seed) -> tf.Tensor:
    """Draws by the transform of Box and Muller (doi:10.1214/aoms/1177706645).

    On CPUs it is twice as fast as TensorFlow's own operation. Two draws are faster than one that
    is cut in halves.
    """
    count = tf.reduce_prod(shape)
    half = [(count + 1) // 2]
    length = 1.0 - tf.random.stateless_uniform(half, seed('radius'))  # above 0
    radius = stddev * tf.sqrt(-2.0 * tf.log(length))
    angle = tf.random.stateless_uniform(half, seed('angle'), maxval=2.0 * math.pi)
    return tf.reshape(
        tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)[:count], shape
    )


# Noise of `shape` (int32 [rank], a tensor) with mean 0 and a standard deviation.
NOISE = {'uniform': _uniform, 'normal': _normal}


class _lazy:
    """A property that is computed once, when first asked for: a rule builds no operation that its
    formula lacks.
    """

    def __init__(self, function: Callable[['LayerView'], tf.Tensor]) -> None:
        self._function = function

    def __get__(self, instance: 'LayerView', owner: type) -> tf.Tensor:
        value = self._function(instance)
        instance.__dict__[self._function.__name__] = value
        return value


class LayerView:
    """The symbols of an alignment loss, for one layer: W, B, R (what is learned of B), x, Wx, Bx,
    BWx and WBx.

    The input, the bias and (unless update_forward) W carry a stop-gradient: a loss over these
    symbols is local to its layer and moves B only. All are float32, whatever type the network
    computes in.

    The input noise depends on the seed (an int or None), the layer's name, the step (updates done
    before this one) and the part (the index, in the step's batch, of the part that the record's
    images are); step and part are ints or integer scalars.
    """

    def __init__(
        self,
        record: LayerRecord,
        options: ViewOptions,
        seed: Union[int, str, None] = None,
        step: Number = 0,
        part: Number = 0,
    ) -> None:
        self.name = record.name
        self._record = record
        self._options = options
        self._draw = seed, step, part
        self.W = record.W if options.update_forward else tf.stop_gradient(record.W)
        self.B = record.B
        self.R = record.B if record.R is None else record.R

    @_lazy
    def x(self) -> tf.Tensor:
        """The input of both projections, [batch, ...]."""
        options = self._options
        x = tf.cast(tf.stop_gradient(self._record.x), tf.float32)
        if options.input_distribution:
            x = NOISE[options.input_distribution](
                tf.shape(x), options.input_stddev, self._noise_seed
            )
            x.set_shape(self._record.x.shape)
        if options.center_input:
            x = center(x)
        return normalize(x) if options.normalize_input else x

    @_lazy
    def Wx(self) -> tf.Tensor:
        """The forward projection as the loss sees it, [batch, ..., units]."""
        return self._forward_output(self._forward)

    @_lazy
    def Bx(self) -> tf.Tensor:
        """The backward projection as the loss sees it, [batch, ..., units]."""
        return self._backward_output(self._backward)

    @_lazy
    def BWx(self) -> tf.Tensor:
        """The forward projection brought back through B: a reconstruction of x, shaped like it."""
        return self._forward_output(self._record.linear.reconstruct(self._forward, self.B, self.x))

    @_lazy
    def WBx(self) -> tf.Tensor:
        """The backward projection brought back through W: a reconstruction of x, shaped like it."""
        return self._backward_output(
            self._record.linear.reconstruct(self._backward, self.W, self.x)
        )

    @property
    def is_linear(self) -> bool:
        """Whether Bx is linear in B, but for the bias, and W stands still: then gradients have the
        closed forms of a rule.
        """
        options = self._options
        return not (
            options.update_forward
            or options.activation_backward
            or options.center_backward_output
            or options.normalize_backward_output
        )

    @property
    def is_plain(self) -> bool:
        """Whether Wx and Bx are x W and x B and nothing else, of an x whose x W is known
        already.
        """
        options = self._options
        return (
            self.is_linear
            and self._sees_the_layers_input
            and self._record.bias is None
            and not (options.activation_forward or options.batch_center_backward_input)
            and self.reconstructs_linearly
        )

    @property
    def reconstructs_linearly(self) -> bool:
        """Whether BWx is Wx brought back through B, and nothing else."""
        options = self._options
        return not (
            options.center_forward_output
            or options.normalize_forward_output
            or options.batch_center_forward_output
        )

    @_lazy
    def backward_x(self) -> tf.Tensor:
        """The input that B projects, [batch, ...]."""
        return batch_center(self.x) if self._options.batch_center_backward_input else self.x

    def project(self, kernel: tf.Tensor) -> tf.Tensor:
        """x through any kernel, [batch, ..., units]."""
        return self._record.linear.project(self.x, kernel)

    def correlate(self, x: tf.Tensor, y: tf.Tensor) -> Tuple[tf.Tensor, Scalar]:
        """The filter gradient of (x, y), shaped like B, and one over the batch: together they are
        the gradient of mean_b sum(xB * y) with respect to B."""
        return self._record.linear.kernel_gradient(x, y, self.B), 1.0 / batch_size(y)

    def bias_overlap(self) -> Scalar:
        """mean_b sum(Wx * bias): what the bias adds to mean_b sum(Wx * Bx)."""
        if self._record.bias is None or not self._options.use_bias_backward:
            return 0.0
        by_unit = self._record.linear.sum_by_unit(self.Wx) / batch_size(self.Wx)
        return inner(by_unit, tf.stop_gradient(self._record.bias))

    def _noise_seed(self, name: str) -> tf.Tensor:
        seed, step, part = self._draw
        return part_seed(seed_of(seed, f'{self.name}:{name}'), step, part)

    @property
    def _sees_the_layers_input(self) -> bool:
        options = self._options
        return not (options.input_distribution or options.center_input or options.normalize_input)

    @_lazy
    def _forward(self) -> tf.Tensor:
        options = self._options
        if self._sees_the_layers_input:  # the forward pass has it already
            Wx = tf.cast(tf.stop_gradient(self._record.y), tf.float32)
            if options.update_forward:
                Wx = known_product(self._record.linear, self.x, self.W, Wx)
        else:
            Wx = self._record.linear.project(self.x, self.W)
        return self._biased(Wx, options.use_bias_forward, options.activation_forward)

    @_lazy
    def _backward(self) -> tf.Tensor:
        options = self._options
        Bx = self._record.linear.project(self.backward_x, self.B)
        return self._biased(Bx, options.use_bias_backward, options.activation_backward)

    def _biased(self, projection: tf.Tensor, use_bias: bool, use_activation: bool) -> tf.Tensor:
        if use_bias and self._record.bias is not None:
            projection = self._record.linear.add_bias(
                projection, tf.stop_gradient(self._record.bias)
            )
        override = self._options.activation_fn_override
        activation = ACTIVATIONS[override] if override else self._record.activation
        return activation(projection) if use_activation and activation else projection

    def _forward_output(self, x: tf.Tensor) -> tf.Tensor:
        options = self._options
        if options.center_forward_output:
            x = center(x)
        if options.normalize_forward_output:
            x = normalize(x)
        return batch_center(x) if options.batch_center_forward_output else x

    def _backward_output(self, x: tf.Tensor) -> tf.Tensor:
        options = self._options
        if options.center_backward_output:
            x = center(x)
        return normalize(x) if options.normalize_backward_output else x
