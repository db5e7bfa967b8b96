"""The layers that networks are built from.

They create the kernels, and they keep a record of each layer for the rule and the angles.
"""

import abc
import functools
import math
from typing import Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

import tensorflow.compat.v1 as tf

from alignment.draws import seed_of
from alignment.gradients import (
    Convolution,
    Dense,
    Direct,
    Linear,
    aligned,
    backprop,
    send_back,
)
from alignment.rules import Rule
from alignment.view import ACTIVATIONS, LayerRecord
from models.roles import Role
from models.types import Initializer, MakeInitializer

Each = TypeVar('Each')


class Replicas(abc.ABC):
    """A device that builds layers on several replicas.

    Attributes:
        replicas: The number of replicas.
    """

    replicas: int

    @abc.abstractmethod
    def all_mean(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the mean of a tensor over the replicas, on each replica, and passes gradients."""


class Layers:
    """Builds layers in the current variable scope.

    Args:
        rule: The alignment rule, or None for backpropagation, which has no backward kernels. A rule
            without a variable for B computes the backward kernels from the forward kernels.
        is_training: Whether batch norm uses and tracks the statistics of the batch.
        regularize: Whether to collect L2 losses.
        weight_decay: The weight of 1/2 |v|^2 in the loss, for every trained variable v but backward
            kernels, in place of the weights that the network gives. None for those of the network.
        bn_trainable: Whether to train gamma and beta of batch norm.
        seed: The seed of the initial kernels, or None.
        dtype: The compute dtype. Variables, batch norm statistics and losses are always float32.
        data_format: The layout of images between layers, 'NHWC' or 'NCHW'. Shapes here are for
            NHWC.
        across: The device, if batch norm should use the statistics of all replicas. None for the
            statistics of each replica.
        over_replicas: Returns the mean of a tensor over all replicas that share the variables, for
            the moving statistics of batch norm. None if there is only one replica.
        classes: The number of classes of the network. Required under direct feedback.
        few_positions: See alignment.gradients.Convolution.

    Attributes:
        records: A LayerRecord for each layer. This and the attributes below are complete once the
            network is built.
        regularization_losses: float32 scalars.
        updates: Operations that update the moving statistics of batch norm.
        roles: {variable name in the checkpoint: its models.roles.Role}.
    """

    def __init__(
        self,
        rule: Optional[Rule] = None,
        is_training: bool = True,
        regularize: bool = True,
        weight_decay: Optional[float] = None,
        bn_trainable: bool = True,
        seed: Optional[int] = None,
        dtype: tf.DType = tf.float32,
        data_format: str = 'NHWC',
        across: Optional[Replicas] = None,
        over_replicas: Optional[Callable[[tf.Tensor], tf.Tensor]] = None,
        classes: int = 0,
        few_positions: int = 0,
    ) -> None:
        self.rule = rule
        self.is_training = is_training
        self.regularize = regularize
        self.weight_decay = weight_decay
        self.bn_trainable = bn_trainable
        self.seed = seed
        self.dtype = dtype
        self.data_format = data_format
        self.across = across
        self.over_replicas = over_replicas or (lambda tensor: tensor)
        self.classes = classes
        self.few_positions = few_positions
        self.records: List[LayerRecord] = []
        self.regularization_losses: List[tf.Tensor] = []
        self.updates: List[tf.Operation] = []
        self.roles: Dict[str, Role] = {}

    def arrange(self, images: tf.Tensor) -> tf.Tensor:
        """Returns images in the dtype and layout of these layers.

        Args:
            images: float32 [batch, height, width, channels].
        """
        images = tf.cast(images, self.dtype)
        return images if self.data_format == 'NHWC' else tf.transpose(images, [0, 3, 1, 2])

    def finish(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the logits [batch, classes]. Call it when all layers are built.

        Under direct feedback, it sends the error of the logits to each layer.
        """
        layers = [
            Direct(r.linear, r.x, r.y, tf.cast(r.direct, self.dtype), self.rule.sends_whole_error)
            for r in self.records
            if self.rule is not None and r.direct is not None
        ]
        return send_back(logits, layers) if layers else logits

    def max_pool(self, x: tf.Tensor, size: int, stride: int, padding: str = 'SAME') -> tf.Tensor:
        """Returns the maximum of each window of size x size pixels, at every `stride` pixels.

        Args:
            x: [batch, height, width, channels].
            size: The side of a window, in pixels.
            stride: The distance between windows, in pixels.
            padding: 'SAME', or 'VALID' for the windows that lie inside the image only.
        """
        return tf.nn.max_pool(
            x,
            ksize=self._by_axis(1, size),
            strides=self._by_axis(1, stride),
            padding=padding,
            data_format=self.data_format,
        )

    def flatten(self, x: tf.Tensor) -> tf.Tensor:
        """Returns x [batch, height, width, channels] as [batch, height * width * channels].

        The order of the features does not depend on the data format, so that a checkpoint fits any
        device.
        """
        if self.data_format == 'NCHW':
            x = tf.transpose(x, [0, 2, 3, 1])
        return tf.reshape(x, [-1, x.shape[1:].num_elements()])

    def widen(self, x: tf.Tensor, channels: int, stride: int) -> tf.Tensor:
        """Returns every `stride`-th pixel of x, with channels of zeros added on both sides.

        This is shortcut A of He et al. 2015 (arXiv:1512.03385).

        Args:
            x: [batch, height, width, in].
            channels: The number of channels of the result, [batch, height', width', channels].
            stride: The distance between the pixels that are kept.
        """
        x = x[tuple(slice(None, None, step) for step in self._by_axis(1, stride))]
        added = channels - self._channels(x)
        pads = [
            [added // 2, added - added // 2] if letter == 'C' else [0, 0]
            for letter in self.data_format
        ]
        return tf.pad(x, pads)

    def average(self, x: tf.Tensor) -> tf.Tensor:
        """Returns x [batch, height, width, channels] averaged over pixels, [batch, channels]."""
        return tf.reduce_mean(x, axis=[self.data_format.index(letter) for letter in 'HW'])

    def dense(
        self,
        x: tf.Tensor,
        units: int,
        activation: Optional[str] = None,
        initializer: MakeInitializer = tf.glorot_uniform_initializer,
        l2: float = 0.0,
        l2_bias: float = 0.0,
    ) -> tf.Tensor:
        """Returns activation(x W + b), [batch, units].

        Args:
            x: [batch, in].
            units: The number of units.
            activation: A name in alignment.view.ACTIVATIONS, or None.
            initializer: A class of initialisers, called with the seed.
            l2: The weight of 1/2 |W|^2 in the loss.
            l2_bias: The weight of 1/2 |b|^2 in the loss.
        """
        shape = [int(x.shape[-1]), units]
        kernels = self._kernels(Dense(), shape, initializer, l2)
        bias = self._bias(units, l2_bias)
        return self._layer(Dense(), x, kernels, bias, activation, followed_by=activation)

    def conv2d(
        self,
        x: tf.Tensor,
        filters: int,
        size: int,
        stride: int = 1,
        use_bias: bool = False,
        activation: Optional[str] = None,
        followed_by: Optional[str] = None,
        padding: Optional[str] = None,
        initializer: MakeInitializer = tf.variance_scaling_initializer,
        l2: float = 0.0,
        l2_bias: float = 0.0,
    ) -> tf.Tensor:
        """Returns activation(x * W + b), [batch, height', width', filters].

        Args:
            x: [batch, height, width, in].
            filters: The number of output channels.
            size: The side of the square kernel, in pixels.
            stride: The stride in both directions, in pixels.
            use_bias: Whether to add a bias.
            activation: A name in alignment.view.ACTIVATIONS, or None.
            followed_by: The name of the non-linearity after this layer's batch norm, which a rule
                can be shown. None for `activation`.
            padding: 'SAME' or 'VALID'. None pads a strided convolution symmetrically by size - 1,
                for any image size, and uses 'SAME' otherwise.
            initializer: A class of initialisers, called with the seed.
            l2: The weight of 1/2 |W|^2 in the loss.
            l2_bias: The weight of 1/2 |b|^2 in the loss.
        """
        if padding is None and stride > 1:
            before = (size - 1) // 2
            x = tf.pad(x, self._by_axis([0, 0], [before, size - 1 - before]))
        convolution = Convolution(
            (stride, stride),
            padding or ('SAME' if stride == 1 else 'VALID'),
            self.data_format,
            self.few_positions,
        )
        kernels = self._kernels(
            convolution, [size, size, self._channels(x), filters], initializer, l2
        )
        bias = self._bias(filters, l2_bias) if use_bias else None
        return self._layer(
            convolution, x, kernels, bias, activation, followed_by=followed_by or activation
        )

    def batch_norm(
        self, x: tf.Tensor, momentum: float, epsilon: float, zero_gamma: bool = False
    ) -> tf.Tensor:
        """Returns x, batch-normalised over all axes but the channels (arXiv:1502.03167).

        Args:
            x: [batch, height, width, channels].
            momentum: The momentum of the moving statistics.
            epsilon: The number that is added to the variance.
            zero_gamma: Whether gamma starts at 0, so that a residual block starts as the identity.
        """
        channels = [self._channels(x)]
        with tf.variable_scope('batch_normalization'):
            gamma = self._variable(
                'gamma',
                Role.BATCH_NORM,
                channels,
                self.bn_trainable,
                tf.zeros_initializer() if zero_gamma else tf.ones_initializer(),
            ).read_value()
            beta = self._variable(
                'beta', Role.BATCH_NORM, channels, self.bn_trainable, tf.zeros_initializer()
            ).read_value()
            if self.bn_trainable:
                for value in (gamma, beta):
                    self._regularize(value)
            mean = self._variable(
                'moving_mean', Role.BATCH_NORM, channels, False, tf.zeros_initializer()
            )
            variance = self._variable(
                'moving_variance', Role.BATCH_NORM, channels, False, tf.ones_initializer()
            )
        if not self.is_training:
            return tf.nn.fused_batch_norm(
                x,
                gamma,
                beta,
                mean.read_value(),
                variance.read_value(),
                epsilon=epsilon,
                data_format=self.data_format,
                is_training=False,
            )[0]
        y, batch_mean, batch_variance = self._normalise(x, gamma, beta, epsilon)
        self.updates += [
            moving.assign_sub(
                (moving.read_value() - self.over_replicas(now)) * (1.0 - momentum), read_value=False
            )
            for moving, now in ((mean, batch_mean), (variance, batch_variance))
        ]
        return y

    def _normalise(
        self, x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
    ) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns x normalised by the statistics of its batch, and these statistics.

        Returns:
            y, with the shape of x, and the mean and the unbiased variance, float32 [channels].
        """
        if self.across is None:
            return tf.nn.fused_batch_norm(
                x, gamma, beta, epsilon=epsilon, data_format=self.data_format, is_training=True
            )[:3]
        axes = [axis for axis, letter in enumerate(self.data_format) if letter != 'C']
        by_channel = [-1 if letter == 'C' else 1 for letter in self.data_format]
        wide = tf.cast(x, tf.float32)
        mean = self.across.all_mean(tf.reduce_mean(wide, axes))
        centred = wide - tf.reshape(mean, by_channel)
        variance = self.across.all_mean(tf.reduce_mean(tf.square(centred), axes))
        y = centred * tf.reshape(gamma * tf.rsqrt(variance + epsilon), by_channel) + tf.reshape(
            beta, by_channel
        )
        count = tf.cast(self.across.replicas * tf.size(x) // self._channels(x), tf.float32)
        return tf.cast(y, x.dtype), mean, variance * (count / tf.maximum(count - 1.0, 1.0))

    def _channels(self, x: tf.Tensor) -> int:
        return int(x.shape[self.data_format.index('C')])

    def _by_axis(self, others: Each, pixels: Each) -> List[Each]:
        """Returns a list: `pixels` for height and width, `others` for batch and channels."""
        return [pixels if letter in 'HW' else others for letter in self.data_format]

    def _kernels(
        self, linear: Linear, shape: List[int], initializer: MakeInitializer, l2: float
    ) -> Dict[str, Optional[tf.Tensor]]:
        """Returns the kernels of a layer: {field of LayerRecord: tensor}.

        They are the forward kernel W and, under a rule, the kernels that errors go back through.
        """
        W = self._kernel('forward_kernel', Role.FORWARD, shape, initializer)
        self._regularize(W, l2)
        rule, name = self.rule, tf.get_variable_scope().name
        if rule is None:
            return dict(W=W, B=None)
        if not rule.has_variable:
            return dict(
                W=W, B=rule.backward_kernel(name, W, None, initial_size(initializer(), shape))
            )
        transposed = isinstance(
            linear, Dense
        )  # checkpoints store a dense backward kernel as [units, in]
        own = rule.variable_shape(shape, self.classes)
        B = self._kernel(
            'backward_kernel', Role.BACKWARD, own[::-1] if transposed else own, initializer
        )
        B = tf.transpose(B) if transposed else B
        if rule.is_direct:
            return dict(W=W, B=None, direct=B)
        inner = rule.fixed_shape(shape)
        fixed = self._fixed(inner) if inner else None
        made = rule.backward_kernel(name, W, B, None, fixed)
        return dict(W=W, B=made, R=None if made is B else B)

    def _fixed(self, shape: List[int]) -> tf.Tensor:
        """Returns a fixed random matrix [inner, units], with mean 0 and variance 1 / inner."""
        initializer = functools.partial(tf.random_normal_initializer, stddev=shape[0] ** -0.5)
        return self._kernel('fixed_matrix', Role.FIXED, shape, initializer, trainable=False)

    def _bias(self, units: int, l2: float = 0.0) -> tf.Tensor:
        bias = self._variable('bias', Role.BIAS, [units], True, tf.zeros_initializer()).read_value()
        self._regularize(bias, l2)
        return bias

    def _kernel(
        self,
        name: str,
        role: Role,
        shape: List[int],
        initializer: MakeInitializer,
        trainable: bool = True,
    ) -> tf.Tensor:
        """Returns the value of a kernel, read once: all uses within a step see the same numbers."""
        seed = (
            None
            if self.seed is None
            else seed_of(self.seed, f'{tf.get_variable_scope().name}/{name}')
        )
        return self._variable(name, role, shape, trainable, initializer(seed=seed)).read_value()

    def _variable(
        self,
        name: str,
        role: Role,
        shape: List[int],
        trainable: bool,
        initializer: Initializer,
    ) -> tf.Variable:
        variable = tf.get_variable(name, shape, initializer=initializer, trainable=trainable)
        self.roles[variable.op.name] = role
        return variable

    def _regularize(self, value: tf.Tensor, l2: float = 0.0) -> None:
        weight = l2 if self.weight_decay is None else self.weight_decay
        if self.regularize and weight:
            self.regularization_losses.append(weight * tf.nn.l2_loss(value))

    def _layer(
        self,
        linear: Linear,
        x: tf.Tensor,
        kernels: Dict[str, Optional[tf.Tensor]],
        bias: Optional[tf.Tensor],
        activation: Optional[str],
        followed_by: Optional[str],
    ) -> tf.Tensor:
        x = tf.cast(x, self.dtype)
        W, B = [
            kernel if kernel is None else tf.cast(kernel, self.dtype)
            for kernel in (kernels['W'], kernels['B'])
        ]
        y = self._product(linear, tf.stop_gradient(x) if 'direct' in kernels else x, W, B)
        output = y if bias is None else linear.add_bias(y, tf.cast(bias, self.dtype))
        output = ACTIVATIONS[activation](output) if activation else output
        self.records.append(
            LayerRecord(
                name=tf.get_variable_scope().name,
                linear=linear,
                bias=bias,
                x=x,
                y=y,
                output=output,
                activation=ACTIVATIONS[followed_by] if followed_by else None,
                **kernels,
            )
        )
        return output

    def _product(
        self, linear: Linear, x: tf.Tensor, W: tf.Tensor, B: Optional[tf.Tensor]
    ) -> tf.Tensor:
        if B is None:
            return backprop(linear, x, W)
        tied = self.rule is not None and self.rule.tie_gradients
        return aligned(linear, x, W, B, tied)


def initial_size(
    initializer: Initializer,
    shape: Sequence[int],
) -> float:
    """Returns the standard deviation of the kernels that an initialiser draws.

    Args:
        initializer: tf.random_normal_initializer, or a variance scaling initialiser such as
            Glorot's.
        shape: The shape of the kernel, [in, units] or [height, width, in, filters].
    """
    if isinstance(initializer, tf.random_normal_initializer):
        return initializer.stddev
    positions = tf.TensorShape(shape[:-2]).num_elements()
    fan_in, fan_out = positions * shape[-2], positions * shape[-1]
    fans = {'fan_in': fan_in, 'fan_out': fan_out, 'fan_avg': (fan_in + fan_out) / 2.0}
    return math.sqrt(initializer.scale / fans[initializer.mode])


class StockLayers(Layers):
    """Layers without custom gradients: an oracle for backpropagation (--tf_layers).

    The variables have the names of TensorFlow's own layers, 'conv2d/kernel' and 'dense/kernel'.
    """

    def _kernels(
        self, linear: Linear, shape: List[int], initializer: MakeInitializer, l2: float
    ) -> Dict[str, Optional[tf.Tensor]]:
        with tf.variable_scope(self._stock_name(linear)):
            W = self._kernel('kernel', Role.FORWARD, shape, initializer)
        self._regularize(W, l2)
        return dict(W=W, B=None)

    def _bias(self, units: int, l2: float = 0.0) -> tf.Tensor:
        with tf.variable_scope('dense'):
            return super()._bias(units, l2)

    def _product(
        self, linear: Linear, x: tf.Tensor, W: tf.Tensor, B: Optional[tf.Tensor]
    ) -> tf.Tensor:
        return linear.project(x, W)

    @staticmethod
    def _stock_name(linear: Linear) -> str:
        return 'dense' if isinstance(linear, Dense) else 'conv2d'
