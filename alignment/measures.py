"""The measures of each layer that a validation reports: of angles, sizes and errors."""

import math
from typing import Dict, List, NamedTuple, Optional, Sequence

import tensorflow.compat.v1 as tf

from alignment.angles import Vector, angle, cosine, participation_ratio, sign_agreement
from alignment.view import LayerRecord

Measures = Dict[str, Dict[str, tf.Tensor]]  # {measure: {layer name: float32 scalar}}


class Pass(NamedTuple):
    """A forward and a backward pass of a network.

    Attributes:
        records: The layers.
        errors: The error dy of each layer, float32 with the shape of its y.
        at_logits: The error at the logits, float32 [batch, classes]. None without direct feedback.
        undivided: Whether direct feedback sends this error from each output position of a
            convolution, instead of dividing it by their number.
    """

    records: Sequence[LayerRecord]
    errors: Sequence[tf.Tensor]
    at_logits: Optional[tf.Tensor] = None
    undivided: bool = False

    def sent(self, record: LayerRecord, dy: tf.Tensor) -> tf.Tensor:
        """Returns the direction of the input gradient that a layer sends, with the shape of x."""
        if record.direct is None:
            return record.linear.reconstruct(dy, record.B, record.x)
        return record.linear.send(self.at_logits, record.direct, record.x, record.y)

    def times(self, record: LayerRecord) -> float:
        """Returns the factor by which `sent` is multiplied: 1 unless the error is undivided."""
        is_larger = self.undivided and record.direct is not None
        return float(_positions(record) if is_larger else 1)


def back(
    records: Sequence[LayerRecord],
    task_loss: tf.Tensor,
    logits: Optional[tf.Tensor] = None,
    undivided: bool = False,
) -> Pass:
    """Returns the Pass of a network.

    Args:
        records: The layers of the network.
        task_loss: A float32 scalar, the mean over the images. The errors are its gradients.
        logits: float32 [batch, classes]. Required under direct feedback.
        undivided: See Pass.
    """
    is_direct = any(record.direct is not None for record in records)
    return Pass(
        records,
        tf.gradients(task_loss, [record.y for record in records]),
        tf.gradients(task_loss, logits)[0] if is_direct else None,
        undivided,
    )


def measure(used: Pass) -> Measures:
    """Returns the measures of the layers of a network, each by itself.

    Args:
        used: The passes of the network as it is trained.

    Returns:
        {measure: {layer name: float32 scalar}}. Angles are in degrees. Measures are NaN where they
        are undefined (see alignment.angles). Only layers with a backward kernel have angles and
        ratios. Under direct feedback, whose kernels do not have the shape of W, they only have
        those of gradients.

        - weight_angles: between W and B.
        - projection_angles: between xW and xB.
        - gradient_angles: between the input gradient that the rule sends, and dy W^T.
        - norm_ratios: |B| / |W|.
        - gradient_norm_ratios: the norm of the input gradient that the rule sends, over |dy W^T|.
        - hebb_angle: Always 0 for all layers, as in the records of the original code, which never
          implemented it. It is kept for programs that read these records.
        - weightsq_norm, weightsq_mean: sum and mean of the squares of W.
        - actsq_norm, actsq_mean: sum and mean of the squares of the layer's output, over the batch.
        - activity_norms: the norm of the layer's output, averaged over the images.
    """
    return dict(_of_layers(used.records), **_of_input_gradients(used))


def compare(used: Pass, backprop: Pass) -> Measures:
    """Returns the measures of the errors of a network, beside those of backpropagation.

    Args:
        used: The passes of the network as it is trained.
        backprop: Those of the same network with the same images, whose errors go back through the
            forward kernels of all layers. `used` itself, if no layer has a backward kernel.

    Returns:
        The same as `measure`. Only layers with a backward kernel have cosines and sign agreements.

        - gradient_cosines: of the angle between dy and backprop's dy.
        - gradient_sign_agreements: how often dy and backprop's dy have the same sign, where
          backprop's is not 0.
        - backprop_gradient_sizes: root mean square, over the images, of the norm of backprop's dy.
          Here, dy is the gradient of the loss of one image, so that the size does not depend on the
          number of images.
        - error_ranks: participation ratio of dy as a matrix [images, positions x units].
    """
    names = [record.name for record in used.records]
    wanted = {name: Vector(dy) for name, dy in zip(names, backprop.errors)}
    errors = wanted
    if backprop is not used:
        both = zip(names, used.errors, backprop.errors)
        errors = {name: Vector(_after(other, dy)) for name, dy, other in both}
    images = {name: int(dy.shape[0]) for name, dy in zip(names, used.errors)}
    pairs = {r.name: (errors[r.name], wanted[r.name]) for r in used.records if _is_compared(r)}
    return {
        'gradient_cosines': {name: cosine(dy, other) for name, (dy, other) in pairs.items()},
        'gradient_sign_agreements': {
            name: sign_agreement(dy, other) for name, (dy, other) in pairs.items()
        },
        'backprop_gradient_sizes': {
            name: math.sqrt(images[name]) * dy.norm for name, dy in wanted.items()
        },
        'error_ranks': {name: participation_ratio(dy, images[name]) for name, dy in errors.items()},
    }


def _of_layers(records: Sequence[LayerRecord]) -> Measures:
    """Returns the measures of kernels, projections and activities."""
    aligned = [record for record in records if record.B is not None]
    kernels = {r.name: (Vector(r.W), Vector(r.B)) for r in aligned}
    squares = {r.name: tf.square(r.output) for r in records}
    return {
        'weight_angles': {name: angle(W, B) for name, (W, B) in kernels.items()},
        'projection_angles': {
            r.name: angle(Vector(r.y), Vector(r.linear.project(r.x, r.B))) for r in aligned
        },
        'norm_ratios': {name: B.norm / W.norm for name, (W, B) in kernels.items()},
        'hebb_angle': {r.name: tf.constant(0.0) for r in records},
        'weightsq_norm': {r.name: tf.reduce_sum(tf.square(r.W)) for r in records},
        'weightsq_mean': {r.name: tf.reduce_mean(tf.square(r.W)) for r in records},
        'actsq_norm': {name: tf.reduce_sum(square) for name, square in squares.items()},
        'actsq_mean': {name: tf.reduce_mean(square) for name, square in squares.items()},
        'activity_norms': {
            name: tf.reduce_mean(tf.sqrt(tf.reduce_sum(square, _by_image(square))))
            for name, square in squares.items()
        },
    }


def _of_input_gradients(used: Pass) -> Measures:
    """Returns the measures that compare what a layer sends with what W would send."""
    gradients = {
        r.name: (Vector(used.sent(r, dy)), Vector(r.linear.reconstruct(dy, r.W, r.x)))
        for r, dy in zip(used.records, used.errors)
        if _is_compared(r)
    }
    times = {r.name: used.times(r) for r in used.records}
    return {
        'gradient_angles': {name: angle(sent, other) for name, (sent, other) in gradients.items()},
        'gradient_norm_ratios': {
            name: times[name] * sent.norm / other.norm for name, (sent, other) in gradients.items()
        },
    }


def _after(other: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns x, but only after another tensor is computed.

    Otherwise, results that are computed from x could occupy memory long before they are needed.
    """
    with tf.control_dependencies([other]):
        return tf.identity(x)


def _is_compared(record: LayerRecord) -> bool:
    """Returns whether the error of a layer does not go back through its forward kernel."""
    return record.B is not None or record.direct is not None


def _by_image(x: tf.Tensor) -> List[int]:
    """Returns all axes except the axis of the images."""
    return list(range(1, x.shape.ndims))


def _positions(record: LayerRecord) -> int:
    """Returns the number of output positions of a layer."""
    return record.y.shape[1:].num_elements() // int(record.W.shape[-1])
