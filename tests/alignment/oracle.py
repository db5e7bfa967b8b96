"""A second implementation of alignment/ in NumPy: float64, with loops over images and positions."""

import collections

import numpy as np


class Dense:
    """y = x K, with K [in, units]."""

    def project(self, x, K):
        return np.einsum('ni,iu->nu', x, K)

    def reconstruct(self, y, K, x):
        return np.einsum('nu,iu->ni', y, K)

    def kernel_gradient(self, x, dy, K):
        return np.einsum('ni,nu->iu', x, dy)

    def add_bias(self, y, bias):
        return y + bias


class Convolution(collections.namedtuple('Convolution', ['strides', 'padding', 'data_format'])):
    """y = x * K, with K [height, width, in, filters].

    NCHW is computed as NHWC: the axes are moved there and back.
    """

    def project(self, x, K):
        return self._out(self._project(self._in(x), K))

    def reconstruct(self, y, K, x):
        return self._out(self._reconstruct(self._in(y), K, self._in(x)))

    def kernel_gradient(self, x, dy, K):
        return self._kernel_gradient(self._in(x), self._in(dy), K)

    def add_bias(self, y, bias):
        return self._out(self._in(y) + bias)

    def _in(self, x):
        return x if self.data_format == 'NHWC' else x.transpose(0, 2, 3, 1)

    def _out(self, x):
        return x if self.data_format == 'NHWC' else x.transpose(0, 3, 1, 2)

    def _project(self, x, K):
        padded, positions, _ = self._frame(x, K)
        y = np.zeros((len(x),) + tuple(1 + np.array(positions[-1][0])) + K.shape[3:])
        for (i, j), window in positions:
            y[:, i, j] = np.einsum('nhwc,hwcf->nf', padded[window], K)
        return y

    def _reconstruct(self, y, K, x):
        padded, positions, inside = self._frame(np.zeros(x.shape), K)
        for (i, j), window in positions:
            padded[window] += np.einsum('nf,hwcf->nhwc', y[:, i, j], K)
        return padded[inside]

    def _kernel_gradient(self, x, dy, K):
        padded, positions, _ = self._frame(x, K)
        return sum(
            np.einsum('nhwc,nf->hwcf', padded[window], dy[:, i, j]) for (i, j), window in positions
        )

    def _frame(self, x, K):
        """Returns the padded input, [(output position, window)], and the slices of the input."""
        starts, pads = [], []
        for axis in (0, 1):
            length, size, stride = x.shape[1 + axis], K.shape[axis], self.strides[axis]
            outputs = (
                -(-length // stride) if self.padding == 'SAME' else (length - size) // stride + 1
            )
            lacking = max((outputs - 1) * stride + size - length, 0)
            starts.append([stride * output for output in range(outputs)])
            pads.append((lacking // 2, lacking - lacking // 2))
        inside = (slice(None),) + tuple(
            slice(pad[0], pad[0] + length) for pad, length in zip(pads, x.shape[1:3])
        )
        positions = [
            ((i, j), (slice(None), slice(top, top + K.shape[0]), slice(left, left + K.shape[1])))
            for i, top in enumerate(starts[0])
            for j, left in enumerate(starts[1])
        ]
        return np.pad(x, [(0, 0)] + pads + [(0, 0)], 'constant'), positions, inside


Convolution.__new__.__defaults__ = ('NHWC',)


# --- what a rule sees -----------------------------------------------------------------------------

ACTIVATIONS = {
    'sigmoid': lambda x: 1 / (1 + np.exp(-x)),
    'tanh': np.tanh,
    'relu': lambda x: np.maximum(x, 0),
}

# W and B are in the layout of the forward kernel. bias is an array or None; activation is a name or
# None.
Layer = collections.namedtuple('Layer', ['linear', 'W', 'B', 'bias', 'x', 'activation'])
Seen = collections.namedtuple('Seen', ['W', 'B', 'x', 'Wx', 'Bx', 'BWx', 'WBx'])


def center(x):
    return np.stack([image - image.mean() for image in x])


def normalize(x):
    return np.stack([image / np.sqrt(np.sum(image**2)) for image in center(x)])


def batch_center(x):
    return x - sum(x) / len(x)


def see(layer, options, noise=None):
    """Returns the Seen of a Layer.

    Args:
        layer: A Layer.
        options: ViewOptions.
        noise: The numbers that an input_distribution has drawn.
    """

    def changed(x, *changes):
        for change, wanted in changes:
            x = change(x) if wanted else x
        return x

    def projection(x, kernel, use_bias, use_activation):
        y = layer.linear.project(x, kernel)
        if use_bias and layer.bias is not None:
            y = layer.linear.add_bias(y, layer.bias)
        activation = options.activation_fn_override or layer.activation
        return ACTIVATIONS[activation](y) if use_activation and activation else y

    def forward(y):
        return changed(
            y,
            (center, options.center_forward_output),
            (normalize, options.normalize_forward_output),
            (batch_center, options.batch_center_forward_output),
        )

    def backward(y):
        return changed(
            y,
            (center, options.center_backward_output),
            (normalize, options.normalize_backward_output),
        )

    x = changed(
        layer.x if noise is None else noise,
        (center, options.center_input),
        (normalize, options.normalize_input),
    )
    Wx = projection(x, layer.W, options.use_bias_forward, options.activation_forward)
    Bx = projection(
        changed(x, (batch_center, options.batch_center_backward_input)),
        layer.B,
        options.use_bias_backward,
        options.activation_backward,
    )
    return Seen(
        layer.W,
        layer.B,
        x,
        forward(Wx),
        backward(Bx),
        BWx=forward(layer.linear.reconstruct(Wx, layer.B, x)),
        WBx=backward(layer.linear.reconstruct(Bx, layer.W, x)),
    )


# --- the rules ------------------------------------------------------------------------------------


def inner(a, b):
    """Returns the inner product of two kernels."""
    return np.vdot(a, b)


def mean_inner(a, b):
    """Returns the inner product of two activities for each image, averaged over the images."""
    return sum(inner(p, q) for p, q in zip(a, b)) / len(a)


def decay(s):
    return inner(s.W, s.W) + inner(s.B, s.B)


def sparse(s):
    return mean_inner(s.Wx, s.Wx) + mean_inner(s.Bx, s.Bx)


def information(
    s, alpha, beta, gamma, reconstruction_reversal=False, reconstruction_amp=False, use_sparse=False
):
    rebuilt = s.WBx if reconstruction_reversal else s.BWx
    amp = mean_inner(s.x, rebuilt) if reconstruction_amp else mean_inner(s.Wx, s.Bx)
    return (
        -alpha * amp
        + beta * mean_inner(rebuilt, rebuilt)
        + gamma * (sparse(s) if use_sparse else decay(s))
    )


# The loss of one layer by the name of the rule: a function of a Seen, the coefficients and the
# switches. None if the rule has no loss.
LOSSES = {
    'feedback': None,
    'usf': None,
    'frsf': None,
    'brsf': None,
    'dfa': None,
    'symmetric': lambda s, alpha, beta: alpha * decay(s) - beta * inner(s.W, s.B),
    'activation': lambda s, alpha, beta: alpha * sparse(s) - beta * mean_inner(s.Wx, s.Bx),
    'mirror': lambda s, alpha, beta: alpha * decay(s) - beta * mean_inner(s.Wx, s.Bx),
    'information': information,
    'kolen_pollack': lambda s, alpha: alpha * decay(s),
    'pfa': lambda s, alpha: (
        alpha * decay(s)
    ),  # if R is B; test_product_and_direct.py tests the other case
}


# --- gradients ------------------------------------------------------------------------------------


def slope(function, at, direction, step=1e-4):
    """Returns the derivative of a scalar function at an array along a direction.

    It is computed by central finite differences.
    """
    return (function(at + step * direction) - function(at - step * direction)) / (2 * step)


def angle(a, b):
    """Returns the angle between two arrays, in degrees."""
    a, b = [
        v / np.sqrt(np.sum(v**2))
        for v in (a.ravel().astype(np.longdouble), b.ravel().astype(np.longdouble))
    ]
    return float(
        np.degrees(2 * np.arctan2(np.sqrt(np.sum((a - b) ** 2)), np.sqrt(np.sum((a + b) ** 2))))
    )
