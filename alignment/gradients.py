"""Matrix product and convolution whose input gradient goes through a backward kernel.

A layer computes y = x W. Backpropagation would return dx = dy W^T; here dx = dy B^T, with a
backward kernel B of its own (feedback alignment: Lillicrap et al. 2016; with learned B: Kunin et
al. 2020, arXiv:2003.01513).

Inside this package every kernel has the layout of the forward kernel, so that one formula serves
both kinds of layer: dense kernels are [in, units], convolution kernels [height, width, in,
filters].
"""

from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

import tensorflow.compat.v1 as tf

Scalar = Union[float, tf.Tensor]
# A value, and the function of its gradient that gives those of what it is computed from.
Differentiated = Tuple[tf.Tensor, Callable[[tf.Tensor], Sequence[Optional[tf.Tensor]]]]


class Dense(NamedTuple):
    """The linear map of a dense layer; kernels float32 [in, units]."""

    def project(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """x [batch, in] -> x K [batch, units]."""
        return tf.matmul(x, kernel)

    def reconstruct(self, y: tf.Tensor, kernel: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """y [batch, units] -> y K^T, shaped like x [batch, in]."""
        del x
        return tf.matmul(y, kernel, transpose_b=True)

    def kernel_gradient(self, x: tf.Tensor, dy: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """x^T dy, shaped like the kernel."""
        del kernel
        return tf.matmul(x, dy, transpose_a=True)

    def send(self, e: tf.Tensor, B: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """e [batch, classes], the error at the logits, to the input: e B^T, shaped like x [batch,
        in]. B: [in, classes].
        """
        return self.reconstruct(e, B, x)

    def add_bias(self, y: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """y [batch, units] + bias [units]."""
        return tf.nn.bias_add(y, bias)

    def sum_by_unit(self, y: tf.Tensor) -> tf.Tensor:
        """y [batch, units] -> [units]."""
        return tf.reduce_sum(y, axis=0)


class Convolution(NamedTuple):
    """The linear map of a 2-D convolution; kernels float32 [height, width, in, filters].

    strides: (vertical, horizontal) in pixels; padding: 'SAME' or 'VALID'; data_format: of images,
    'NHWC' (shapes here are written so) or 'NCHW'.
    few_positions: up to so many output positions an image, a plain convolution gives the input
    gradient faster than TensorFlow's own operation for it, which on TensorFlow 1.13.2's CPUs reads
    the whole kernel once an image (benchmarks/input_gradient.py).
    """

    strides: Tuple[int, int]
    padding: str
    data_format: str = 'NHWC'
    few_positions: int = 0

    def project(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """x [batch, height, width, in] -> x * K [batch, height', width', filters]."""
        return tf.nn.conv2d(
            x, kernel, strides=self._strides, padding=self.padding, data_format=self.data_format
        )

    def reconstruct(self, y: tf.Tensor, kernel: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """y -> transposed convolution of y with K, shaped like x."""
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
        """The same as a plain convolution, in NHWC: of y, spread out by the stride, with the kernel
        turned round.
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
        """The filter gradient of (x, dy), shaped like the kernel."""
        return tf.nn.conv2d_backprop_filter(
            x,
            tf.shape(kernel),
            dy,
            strides=self._strides,
            padding=self.padding,
            data_format=self.data_format,
        )

    def send(self, e: tf.Tensor, B: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """e [batch, classes], the error at the logits, to the input, shaped like x: what
        `reconstruct` makes of an error e / n at each of the n output positions of y, by B [height,
        width, in, classes].

        Because e is the same at all positions, each place in the kernel sends one vector, and an
        input position gets the sum
        of those whose output positions there are: (positions, places) (places, in) products an
        image, whatever the classes.
        """
        height, width, inputs, _ = B.shape.as_list()
        places = height * width
        axes = [self.data_format.index(letter) for letter in 'HW']
        size, positions = [tf.stack([tf.shape(tensor)[axis] for axis in axes]) for tensor in (x, y)]
        flat = self._replace(data_format='NHWC')
        # 1 where an output position sends to an input position by a place, else 0
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
        )
        dx /= tf.cast(tf.reduce_prod(positions), e.dtype)  # [batch, in, input positions]
        if self.data_format == 'NHWC':
            dx = tf.transpose(dx, [0, 2, 1])
        dx = tf.reshape(dx, tf.shape(x))
        dx.set_shape(x.shape)
        return dx

    def add_bias(self, y: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """y [batch, height, width, filters] + bias [filters]."""
        return tf.nn.bias_add(y, bias, data_format=self.data_format)

    def sum_by_unit(self, y: tf.Tensor) -> tf.Tensor:
        """y [batch, height, width, filters] -> [filters]."""
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
    """A layer to whose input the error at the logits goes straight, through B [in, classes] or
    [height, width, in, classes].
    """

    linear: Linear
    x: tf.Tensor
    y: tf.Tensor
    B: tf.Tensor


def _spread(y: tf.Tensor, axis: int, stride: int) -> tf.Tensor:
    """stride - 1 zeros between neighbours along an axis of known size."""
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
    """y = x W forward; dx = dy B^T, dW = x^T dy, dB = dW if tie_gradients else 0 (None: nothing to
    compute) backward.

    linear: Dense() or Convolution(...); W, B: kernels of one shape; tie_gradients: Kolen-Pollack.
    """

    @tf.custom_gradient
    def product(x: tf.Tensor, W: tf.Tensor, B: tf.Tensor) -> Differentiated:
        def gradient(dy: tf.Tensor) -> Sequence[Optional[tf.Tensor]]:
            dW = linear.kernel_gradient(x, dy, W)
            return linear.reconstruct(dy, B, x), dW, (dW if tie_gradients else None)

        return linear.project(x, W), gradient

    return product(x, W, B)


def backprop(linear: Linear, x: tf.Tensor, W: tf.Tensor) -> tf.Tensor:
    """y = x W with the ordinary gradients, dx = dy W^T and dW = x^T dy."""

    @tf.custom_gradient
    def product(x: tf.Tensor, W: tf.Tensor) -> Differentiated:
        return linear.project(x, W), lambda dy: (
            linear.reconstruct(dy, W, x),
            linear.kernel_gradient(x, dy, W),
        )

    return product(x, W)


def known_product(linear: Linear, x: tf.Tensor, W: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """y, known to be x W; its gradient reaches W alone, and nothing is multiplied again."""

    @tf.custom_gradient
    def product(y: tf.Tensor, W: tf.Tensor) -> Differentiated:
        return tf.identity(y), lambda dy: (None, linear.kernel_gradient(x, dy, W))

    return product(tf.stop_gradient(y), W)


def send_back(logits: tf.Tensor, layers: Sequence[Direct]) -> tf.Tensor:
    """The logits [batch, classes], whose error e goes to the input of each layer, too, as dx = e
    B^T.

    layers: of each the input, the output and B; all of one type.
    Source: Nokland 2016 (arXiv:1609.01596).
    """

    @tf.custom_gradient
    def value(logits: tf.Tensor, *inputs: tf.Tensor) -> Differentiated:
        del inputs
        return tf.identity(
            logits
        ), lambda e: [e] + [linear.send(e, B, x, y) for linear, x, y, B in layers]

    return value(logits, *[x for _, x, _, _ in layers])


def with_gradient(
    loss: tf.Tensor, B: tf.Tensor, terms: Sequence[Tuple[Scalar, tf.Tensor]]
) -> tf.Tensor:
    """The scalar `loss`, whose gradient with respect to B is the sum of factor * tensor over the
    terms, and to all else nothing.

    terms: [(factor, tensor shaped like B)]; each tensor is gone over once, whatever else scales the
    loss.
    """

    @tf.custom_gradient
    def value(loss: tf.Tensor, B: tf.Tensor) -> Differentiated:
        return tf.identity(loss), lambda scale: (
            None,
            tf.add_n([(scale * factor) * tensor for factor, tensor in terms]),
        )

    return value(tf.stop_gradient(loss), B)


def matmul(x: tf.Tensor, W: tf.Tensor, B: tf.Tensor, tie_gradients: bool = False) -> tf.Tensor:
    """y [batch, units] of x [batch, in] and W [in, units]; the input gradient goes through B
    [units, in].
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
    """NHWC convolution of x with W; the input gradient goes through B; both [height, width, in,
    filters].
    """
    return aligned(Convolution(strides, padding), x, W, B, tie_gradients)
