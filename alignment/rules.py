"""The alignment rules: how a layer's backward kernel B comes to help its forward kernel W learn. One class a rule.

To add a rule, add a class: a name, its coefficients with their defaults, and its loss. It is found by itself.
W, B, Wx, Bx, BWx, WBx are those of alignment/layer.py; the terms are those of alignment/primitives.py.
"""
from alignment.layer import LayerView, ViewOptions
from alignment.primitives import amp, decay, null, sparse
from alignment.primitives import self as self_product

KERNELS = frozenset(['update_forward'])  # what a rule over the kernels alone can see
PROJECTIONS = frozenset(ViewOptions._fields)


class Rule:
    """An alignment rule.

    Arguments are keywords: any of the class's coefficients (a Python number or a float32 scalar tensor), any of its
    switches (bool), options (ViewOptions) and seed (int or None, of the input noise).
    Raises TypeError for any other name.
    """
    name = None             # its value in --alignment
    coefficients = {}       # name -> default: weights of the terms, each of which can have a schedule
    switches = {}           # name -> default: variants of the formula
    sees = frozenset()      # which ViewOptions change its loss
    tie_gradients = False   # whether B receives W's gradient of the task loss

    def __init__(self, options=ViewOptions(), seed=None, **values):
        self.options = options
        self.seed = seed
        settings = dict(self.coefficients, **self.switches)
        unknown = sorted(set(values) - set(settings))
        if unknown:
            raise TypeError('{} has no {}; it takes {}'.format(self.name, ', '.join(unknown), ', '.join(settings) or 'nothing'))
        self.__dict__.update(settings, **values)

    def loss(self, layer):
        """The alignment loss of one layer (a LayerView): a float32 scalar, or None where the rule has none."""
        raise NotImplementedError

    def losses(self, records):
        """The alignment loss of every LayerRecord: {layer name: float32 scalar}."""
        losses = {record.name: self.loss(LayerView(record, self.options, self.seed)) for record in records}
        return {name: loss for name, loss in losses.items() if loss is not None}


class Feedback(Rule):
    """Feedback alignment: B is random and stays as it is; W learns to live with it. Loss 0.

    Source: Lillicrap et al. 2016 (doi:10.1038/ncomms13276).
    """
    name = 'feedback'

    def loss(self, layer):
        return None


class Symmetric(Rule):
    """Symmetric alignment: alpha (|W|^2 + |B|^2) - beta sum(W * B). At beta = 2 alpha its minimum over B is B = W.

    Source: Kunin et al. 2020 (arXiv:2003.01513).
    """
    name = 'symmetric'
    coefficients = dict(alpha=1e-3, beta=2e-3)
    sees = KERNELS

    def loss(self, layer):
        return self.alpha * decay(layer.W, layer.B) + self.beta * self_product(layer.W, layer.B)


class Activation(Rule):
    """Activation alignment: alpha (|Wx|^2 + |Bx|^2) - beta sum(Wx * Bx). At beta = 2 alpha its minimum is Bx = Wx.

    Source: Kunin et al. 2020 (arXiv:2003.01513).
    """
    name = 'activation'
    coefficients = dict(alpha=1e-3, beta=2e-3)
    sees = PROJECTIONS

    def loss(self, layer):
        return self.alpha * sparse(layer.Wx, layer.Bx) + self.beta * amp(layer.Wx, layer.Bx)


class Mirror(Rule):
    """Weight mirror: alpha (|W|^2 + |B|^2) - beta mean_b sum(Wx * Bx). Meant for noise as the input x.

    Source: Akrout et al. 2019 (arXiv:1904.05391), as a sum of primitives: Kunin et al. 2020 (arXiv:2003.01513).
    """
    name = 'mirror'
    coefficients = dict(alpha=1e-3, beta=1e-3)
    sees = PROJECTIONS

    def loss(self, layer):
        return self.alpha * decay(layer.W, layer.B) + self.beta * amp(layer.Wx, layer.Bx)


class Information(Rule):
    """Information alignment: -alpha mean_b sum(Wx * Bx) + beta |B(Wx)|^2 + gamma (|W|^2 + |B|^2).

    reconstruction_reversal: W(Bx) is the reconstruction, not B(Wx). reconstruction_amp: the first term compares x with
    the reconstruction. use_sparse: the last term is |Wx|^2 + |Bx|^2.
    Source: Kunin et al. 2020 (arXiv:2003.01513).
    """
    name = 'information'
    coefficients = dict(alpha=2e-3, beta=1e-3, gamma=1e-3)
    switches = dict(reconstruction_reversal=False, reconstruction_amp=False, use_sparse=False)
    sees = PROJECTIONS

    def loss(self, layer):
        reconstruction = layer.WBx if self.reconstruction_reversal else layer.BWx
        similarity = amp(layer.x, reconstruction) if self.reconstruction_amp else amp(layer.Wx, layer.Bx)
        size = sparse(layer.Wx, layer.Bx) if self.use_sparse else decay(layer.W, layer.B)
        return self.alpha * similarity + self.beta * null(reconstruction) + self.gamma * size


class KolenPollack(Rule):
    """Kolen-Pollack: B receives W's gradient and both decay, alpha (|W|^2 + |B|^2), so that they grow alike.

    Source: Kolen & Pollack 1994; Akrout et al. 2019 (arXiv:1904.05391).
    """
    name = 'kolen_pollack'
    coefficients = dict(alpha=1e-3)
    sees = KERNELS
    tie_gradients = True

    def loss(self, layer):
        return self.alpha * decay(layer.W, layer.B)


RULES = {rule.name: rule for rule in Rule.__subclasses__()}
