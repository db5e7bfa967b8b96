"""Matrix product and convolution whose input gradient uses a separate backward kernel.

A layer computes y = x W. Backpropagation returns the input gradient dx = dy W^T; the operations in
this module return dx = dy B^T, with a separate backward kernel B (feedback alignment: Lillicrap et
al. 2016, doi:10.1038/ncomms13276; with a learned B: Kunin et al. 2020, arXiv:2003.01513).

In this package, every kernel has the layout of the forward kernel, so that one formula serves both
kinds of layer: dense kernels are [in, units], convolution kernels [height, width, in, filters].
"""

from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

import tensorflow.compat.v1 as tf

Scalar = Union[float, tf.Tensor]
# A value, and the function that computes the gradients of its inputs from its own gradient.
Differentiated = Tuple[tf.Tensor, Callable[[tf.Tensor], Sequence[Optional[tf.Tensor]]]]


class Dense(NamedTuple):
    """The linear map of a dense layer. Kernels are float32 [in, units]."""

    def project(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns x K, [batch, units], for x [batch, in]."""
        return tf.matmul(x, kernel)

    def reconstruct(self, y: tf.Tensor, kernel: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns y K^T, with the shape of x [batch, in], for y [batch, units]."""
        del x
        return tf.matmul(y, kernel, transpose_b=True)

    def kernel_gradient(self, x: tf.Tensor, dy: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns x^T dy, with the shape of the kernel."""
        del kernel
        return tf.matmul(x, dy, transpose_a=True)

    def send(
        self, e: tf.Tensor, B: tf.Tensor, x: tf.Tensor, y: tf.Tensor, whole: bool = False
    ) -> tf.Tensor:
        """Returns the input gradient e B^T under direct feedback, with the shape of x [batch, in].

        Args:
            e: The error at the logits, [batch, classes].
            B: The kernel from the classes to the input, [in, classes].
            x: The input of the layer.
            y: The output of the layer. It is not used.
            whole: Not used: a dense layer has one position.
        """
        return self.reconstruct(e, B, x)

    def add_bias(self, y: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """Returns y + bias, for y [batch, units] and bias [units]."""
        return tf.nn.bias_add(y, bias)

    def sum_by_unit(self, y: tf.Tensor) -> tf.Tensor:
        """Returns the sum of y [batch, units] over the batch, [units]."""
        return tf.reduce_sum(y, axis=0)


class Convolution(NamedTuple):
    """The linear map of a 2-D convolution. Kernels are float32 [height, width, in, filters].

    Attributes:
        strides: (vertical, horizontal), in pixels.
        padding: 'SAME' or 'VALID'.
        data_format: The layout of images, 'NHWC' or 'NCHW'. Shapes in this class are for NHWC.
        few_positions: The largest number of output positions per image at which the input gradient
            is computed as a plain convolution. TensorFlow's own operation is slower there: on CPUs,
            TensorFlow 1.13.2 reads the whole kernel once for each image
            (benchmarks/input_gradient.py).
    """

    strides: Tuple[int, int]
    padding: str
    data_format: str = 'NHWC'
    few_positions: int = 0

    def project(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the convolution of x [batch, height, width, in] with the kernel.

        The result is [batch, height', width', filters].
        """
        return tf.nn.conv2d(
            x, kernel, strides=self._strides, padding=self.padding, data_format=self.data_format
        )

    def reconstruct(self, y: tf.Tensor, kernel: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns the transposed convolution of y with the kernel, with the shape of x."""
        positions = y.shape[1:3].num_elements()
        if (
            self.data_format == 'NHWC'
            and positions is not None
            and positions <= self.few_positions
            and x.shape[1:3].is_fully_defined()
        ):
            return self._convolve_back(y, kernel, x)
        return tf.nn.conv2d_backprop_input(
            tf.shape(x),
            kernel,
            y,
            strides=self._strides,
            padding=self.padding,
            data_format=self.data_format,
        )

    def _convolve_back(self, y: tf.Tensor, kernel: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns the same as `reconstruct`, by a plain convolution in NHWC.

        It convolves y, with zeros inserted for the stride, with the rotated kernel.
        """
        pads = [[0, 0]]
        for axis, stride in enumerate(self.strides):
            inputs, outputs, size = (
                int(x.shape[1 + axis]),
                int(y.shape[1 + axis]),
                int(kernel.shape[axis]),
            )
            overlap = max((outputs - 1) * stride + size - inputs, 0)
            before = size - 1 - (overlap // 2 if self.padding == 'SAME' else 0)
            pads.append([before, inputs + size - 1 - before - ((outputs - 1) * stride + 1)])
            y = _spread(y, 1 + axis, stride)
        turned = tf.reverse(tf.transpose(kernel, [0, 1, 3, 2]), axis=[0, 1])
        return tf.nn.conv2d(
            tf.pad(y, pads + [[0, 0]]), turned, strides=[1, 1, 1, 1], padding='VALID'
        )

    def kernel_gradient(self, x: tf.Tensor, dy: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the kernel gradient of (x, dy), with the shape of the kernel."""
        return tf.nn.conv2d_backprop_filter(
            x,
            tf.shape(kernel),
            dy,
            strides=self._strides,
            padding=self.padding,
            data_format=self.data_format,
        )

    def send(
        self, e: tf.Tensor, B: tf.Tensor, x: tf.Tensor, y: tf.Tensor, whole: bool = False
    ) -> tf.Tensor:
        """Returns the input gradient under direct feedback, with the shape of x.

        The result equals `reconstruct` applied to an error e / n at each of the n output positions
        of y. Because e is the same at all positions, each place in the kernel sends one vector, and
        an input position receives the sum over the places from which an output position reaches it.
        This takes one matrix product (positions, places) (places, in) for each image, whatever the
        number of classes.

        Args:
            e: The error at the logits, [batch, classes].
            B: The kernel from the classes to the input, [height, width, in, classes].
            x: The input of the layer, [batch, height, width, in].
            y: The output of the layer, [batch, height', width', filters].
            whole: Whether each output position sends e rather than e / n.
        """
        height, width, inputs, _ = B.shape.as_list()
        places = height * width
        axes = [self.data_format.index(letter) for letter in 'HW']
        size, positions = [tf.stack([tf.shape(tensor)[axis] for axis in axes]) for tensor in (x, y)]
        flat = self._replace(data_format='NHWC')
        # 1 where an output position reaches an input position through a place of the kernel, else 0
        there = flat.reconstruct(
            tf.ones(tf.concat([[1], positions, [1]], 0), e.dtype),
            tf.reshape(tf.eye(places, dtype=e.dtype), [height, width, places, 1]),
            tf.zeros(tf.concat([[1], size, [places]], 0)),
        )
        sent = tf.matmul(
            e, tf.reshape(B, [places * inputs, -1]), transpose_b=True
        )  # [batch, places * in]
        dx = tf.tensordot(
            tf.reshape(sent, [-1, places, inputs]), tf.reshape(there, [-1, places]), axes=[[1], [1]]
        )  # [batch, in, input positions]
        if not whole:
            dx /= tf.cast(tf.reduce_prod(positions), e.dtype)
        if self.data_format == 'NHWC':
            dx = tf.transpose(dx, [0, 2, 1])
        dx = tf.reshape(dx, tf.shape(x))
        dx.set_shape(x.shape)
        return dx

    def add_bias(self, y: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """Returns y + bias, for y [batch, height, width, filters] and bias [filters]."""
        return tf.nn.bias_add(y, bias, data_format=self.data_format)

    def sum_by_unit(self, y: tf.Tensor) -> tf.Tensor:
        """Returns the sum of y [batch, height, width, filters] by filter, [filters]."""
        return tf.reduce_sum(
            y, axis=[axis for axis, letter in enumerate(self.data_format) if letter != 'C']
        )

    @property
    def _strides(self) -> List[int]:
        return [
            {'H': self.strides[0], 'W': self.strides[1]}.get(letter, 1)
            for letter in self.data_format
        ]


Linear = Union[Dense, Convolution]


class Direct(NamedTuple):
    """A layer whose input receives the error at the logits directly.

    Attributes:
        linear: The linear map of the layer.
        x: The input of the layer, [batch, ...].
        y: The output of the linear map, [batch, ...].
        B: The kernel from the classes to the input, [in, classes] or [height, width, in, classes].
        whole: Whether every output position of a convolution sends the error undivided.
    """

    linear: Linear
    x: tf.Tensor
    y: tf.Tensor
    B: tf.Tensor
    whole: bool = False


def _spread(y: tf.Tensor, axis: int, stride: int) -> tf.Tensor:
    """Returns y with stride - 1 zeros between neighbours along an axis of known size."""
    if stride == 1:
        return y
    size = int(y.shape[axis])
    y = tf.pad(
        tf.expand_dims(y, axis + 1),
        [[0, stride - 1] if a == axis + 1 else [0, 0] for a in range(5)],
    )
    sizes = y.shape.as_list()
    spread = tf.reshape(y, [-1] + sizes[1:axis] + [size * stride] + sizes[axis + 2 :])
    return (
        spread[:, : 1 + (size - 1) * stride]
        if axis == 1
        else spread[:, :, : 1 + (size - 1) * stride]
    )


def aligned(
    linear: Linear, x: tf.Tensor, W: tf.Tensor, B: tf.Tensor, tie_gradients: bool = False
) -> tf.Tensor:
    """Returns y = x W, whose input gradient goes through B.

    The gradients are::

        dx = dy B^T
        dW = x^T dy
        dB = dW if tie_gradients, else 0

    A gradient of 0 is None in TensorFlow, so it costs nothing.

    Args:
        linear: Dense() or Convolution(...).
        x: The input, [batch, ...].
        W: The forward kernel.
        B: The backward kernel, with the shape of W.
        tie_gradients: Whether B receives the gradient of W, as under Kolen-Pollack.
    """

    @tf.custom_gradient
    def product(x: tf.Tensor, W: tf.Tensor, B: tf.Tensor) -> Differentiated:
        def gradient(dy: tf.Tensor) -> Sequence[Optional[tf.Tensor]]:
            dW = linear.kernel_gradient(x, dy, W)
            return linear.reconstruct(dy, B, x), dW, (dW if tie_gradients else None)

        return linear.project(x, W), gradient

    return product(x, W, B)


def backprop(linear: Linear, x: tf.Tensor, W: tf.Tensor) -> tf.Tensor:
    """Returns y = x W with the ordinary gradients, dx = dy W^T and dW = x^T dy."""

    @tf.custom_gradient
    def product(x: tf.Tensor, W: tf.Tensor) -> Differentiated:
        return linear.project(x, W), lambda dy: (
            linear.reconstruct(dy, W, x),
            linear.kernel_gradient(x, dy, W),
        )

    return product(x, W)


def known_product(linear: Linear, x: tf.Tensor, W: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns y, which must equal x W, with a gradient to W only; the product is not recomputed."""

    @tf.custom_gradient
    def product(y: tf.Tensor, W: tf.Tensor) -> Differentiated:
        return tf.identity(y), lambda dy: (None, linear.kernel_gradient(x, dy, W))

    return product(tf.stop_gradient(y), W)


def send_back(logits: tf.Tensor, layers: Sequence[Direct]) -> tf.Tensor:
    """Returns the logits; their error e is also sent to the input of each layer, as dx = e B^T.

    Source: Nokland 2016 (arXiv:1609.01596).

    Args:
        logits: [batch, classes].
        layers: The layers that receive the error. Their tensors have the dtype of the logits.
    """

    @tf.custom_gradient
    def value(logits: tf.Tensor, *inputs: tf.Tensor) -> Differentiated:
        del inputs
        return (
            tf.identity(logits),
            lambda e: (
                [e] + [each.linear.send(e, each.B, each.x, each.y, each.whole) for each in layers]
            ),
        )

    return value(logits, *[each.x for each in layers])


def with_gradient(
    loss: tf.Tensor, B: tf.Tensor, terms: Sequence[Tuple[Scalar, tf.Tensor]]
) -> tf.Tensor:
    """Returns the scalar `loss`, with a given gradient with respect to B and no other gradient.

    Args:
        loss: A float32 scalar.
        B: The backward kernel.
        terms: [(factor, tensor with the shape of B)]. The gradient is the sum of factor * tensor.
            Each tensor is multiplied only once: what scales the loss is folded into the factor.
    """

    @tf.custom_gradient
    def value(loss: tf.Tensor, B: tf.Tensor) -> Differentiated:
        return tf.identity(loss), lambda scale: (
            None,
            tf.add_n([(scale * factor) * tensor for factor, tensor in terms]),
        )

    return value(tf.stop_gradient(loss), B)


def matmul(x: tf.Tensor, W: tf.Tensor, B: tf.Tensor, tie_gradients: bool = False) -> tf.Tensor:
    """Returns x W, whose input gradient goes through B.

    Args:
        x: float32 [batch, in].
        W: float32 [in, units].
        B: float32 [units, in], the layout in which checkpoints store dense backward kernels.
        tie_gradients: Whether B receives the gradient of W.

    Returns:
        float32 [batch, units].
    """
    return aligned(Dense(), x, W, tf.transpose(B), tie_gradients)


def conv2d(
    x: tf.Tensor,
    W: tf.Tensor,
    B: tf.Tensor,
    strides: Tuple[int, int] = (1, 1),
    padding: str = 'SAME',
    tie_gradients: bool = False,
) -> tf.Tensor:
    """Returns the NHWC convolution of x with W, whose input gradient goes through B.

    Args:
        x: float32 [batch, height, width, in].
        W: float32 [height, width, in, filters].
        B: float32, with the shape of W.
        strides: (vertical, horizontal), in pixels.
        padding: 'SAME' or 'VALID'.
        tie_gradients: Whether B receives the gradient of W.

    Returns:
        float32 [batch, height', width', filters].
    """
    return aligned(Convolution(strides, padding), x, W, B, tie_gradients)
