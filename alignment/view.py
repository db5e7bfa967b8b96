"""A layer as the network built it (LayerRecord), and what a rule sees of it (LayerView)."""

import math
from typing import Callable, List, NamedTuple, Optional, Tuple, Union

import tensorflow.compat.v1 as tf

from alignment.draws import Number, part_seed, seed_of
from alignment.gradients import Linear, Scalar, known_product
from alignment.primitives import batch_size, inner

ACTIVATIONS = {'sigmoid': tf.sigmoid, 'tanh': tf.tanh, 'relu': tf.nn.relu}


class LayerRecord(NamedTuple):
    """A layer as the network built it.

    Attributes:
        name: Its scope in the checkpoint, such as 'block_group1_0/conv1'. It is the layer's key in
            all results.
        linear: Its linear map.
        W: The forward kernel, float32 [in, units] or [height, width, in, filters].
        B: The kernel that the error goes back through, in the layout of W. None under
            backpropagation and direct feedback.
        bias: float32 [units], or None.
        x: The input of the linear map, [batch, ...], after padding if the layer pads, in the
            compute dtype.
        y: x W without the bias, in the compute dtype.
        output: The output of the layer, after the bias and the activation.
        activation: The non-linearity that follows the layer, even if a batch norm comes between.
            None for a linear layer.
        R: The variable that B is computed from, float32, if B is not the variable itself. Otherwise
            None.
        direct: The kernel that the error of the logits goes back through, [in, classes] or [height,
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
    """What a rule sees of a layer. The defaults show the layer's own input, kernels and bias.

    Attributes:
        update_forward: The alignment loss trains W as well.
        input_distribution: None for the layer's input. 'uniform' or 'normal' for noise of mean 0
            instead.
        input_stddev: The standard deviation of this noise.
        use_bias_forward: Add the bias to Wx.
        use_bias_backward: Add the bias to Bx.
        activation_fn_override: The non-linearity to use in place of the layer's.
        activation_forward: Apply the non-linearity to Wx.
        activation_backward: Apply the non-linearity to Bx.
        batch_center_backward_input: Subtract the mean over the batch from the input that B
            projects.
        center_input: Subtract the mean of each example from the input.
        normalize_input: Center each example of the input, then divide it by its norm.
        batch_center_forward_output: Subtract the mean over the batch from Wx and B(Wx).
        center_forward_output: Subtract the mean of each example from Wx and B(Wx).
        normalize_forward_output: Center each example of Wx and B(Wx), then divide it by its norm.
        center_backward_output: Subtract the mean of each example from Bx and W(Bx).
        normalize_backward_output: Center each example of Bx and W(Bx), then divide it by its norm.
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
    """Returns x without the mean of each example over its features, float32 [batch, ...]."""
    return x - tf.reduce_mean(x, axis=_features(x), keepdims=True)


def normalize(x: tf.Tensor) -> tf.Tensor:
    """Returns x with each example centered, then divided by its norm, float32 [batch, ...]."""
    return tf.nn.l2_normalize(center(x), axis=_features(x))


def batch_center(x: tf.Tensor) -> tf.Tensor:
    """Returns x without its mean over the batch, float32 [batch, ...]."""
    return x - tf.reduce_mean(x, axis=0, keepdims=True)


def _features(x: tf.Tensor) -> List[int]:
    return list(range(1, x.shape.ndims))


Seed = Callable[[str], tf.Tensor]  # maps the name of a draw to its seed, int32 [2]


def _uniform(shape: tf.Tensor, stddev: float, seed: Seed) -> tf.Tensor:
    half_width = math.sqrt(3.0) * stddev
    return tf.random.stateless_uniform(
        shape, seed('uniform'), minval=-half_width, maxval=half_width
    )


def _normal(shape: tf.Tensor, stddev: float, seed: Seed) -> tf.Tensor:
    """Draws normal numbers by the Box-Muller transform (doi:10.1214/aoms/1177706645).

    On CPUs, this is twice as fast as TensorFlow's own operation. Two separate draws are faster than
    one draw that is split in halves.
    """
    count = tf.reduce_prod(shape)
    half = [(count + 1) // 2]
    length = 1.0 - tf.random.stateless_uniform(half, seed('radius'))  # above 0
    radius = stddev * tf.sqrt(-2.0 * tf.log(length))
    angle = tf.random.stateless_uniform(half, seed('angle'), maxval=2.0 * math.pi)
    return tf.reshape(
        tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)[:count], shape
    )


# Each function draws noise of mean 0. Its arguments are the shape (a tensor, int32 [rank]), the
# standard deviation and a Seed.
NOISE = {'uniform': _uniform, 'normal': _normal}


class _lazy:
    """A property that is computed on first use, so a rule only adds the operations that it uses."""

    def __init__(self, function: Callable[['LayerView'], tf.Tensor]) -> None:
        self._function = function

    def __get__(self, instance: 'LayerView', owner: type) -> tf.Tensor:
        value = self._function(instance)
        instance.__dict__[self._function.__name__] = value
        return value


class LayerView:
    """The symbols of an alignment loss for one layer: W, B, R, x, Wx, Bx, BWx and WBx.

    R is the layer's variable for B, which is B itself under most rules. The input, the bias and
    (unless update_forward) W carry a stop-gradient. A loss over these symbols is therefore local to
    its layer and only trains B. All symbols are float32, whatever the compute dtype of the network.

    Args:
        record: The layer.
        options: What the rule sees of it.
        seed: The seed of the input noise, or None. The noise also depends on the layer's name, the
            step and the part.
        step: The number of updates done before this one, an int or an integer scalar.
        part: The part of the step's batch that the record was computed from, an int or an integer
            scalar.
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
        """The forward projection, sent back through B: a reconstruction with the shape of x."""
        return self._forward_output(self._record.linear.reconstruct(self._forward, self.B, self.x))

    @_lazy
    def WBx(self) -> tf.Tensor:
        """The backward projection, sent back through W: a reconstruction with the shape of x."""
        return self._backward_output(
            self._record.linear.reconstruct(self._backward, self.W, self.x)
        )

    @property
    def is_linear(self) -> bool:
        """Whether Bx is linear in B, apart from the bias, and the loss does not train W.

        Closed forms are valid only in this case.
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
        """Whether Wx and Bx are exactly x W and x B, and x is the layer's own input.

        The forward pass has already computed x W in this case.
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
        """Whether BWx is Wx sent back through B without further changes."""
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
        """Returns x projected through any kernel, [batch, ..., units]."""
        return self._record.linear.project(self.x, kernel)

    def correlate(self, x: tf.Tensor, y: tf.Tensor) -> Tuple[tf.Tensor, Scalar]:
        """Returns the kernel gradient of (x, y), with the shape of B, and one over the batch size.

        Their product is the gradient of mean_b sum(xB * y) with respect to B.
        """
        return self._record.linear.kernel_gradient(x, y, self.B), 1.0 / batch_size(y)

    def bias_overlap(self) -> Scalar:
        """Returns mean_b sum(Wx * bias): what the bias adds to mean_b sum(Wx * Bx)."""
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
        if self._sees_the_layers_input:  # then the forward pass has computed it already
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
