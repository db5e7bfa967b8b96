"""What --freeze keeps from being trained."""

from typing import FrozenSet, Mapping, Sequence, Union

from config.schema import ConfigError
from models.roles import Role, Slot

ROLES = {'forward_kernel': Role.FORWARD, 'bias': Role.BIAS, 'norm': Role.BATCH_NORM}
MOST = 12  # layers that a message names


def frozen(
    names: Sequence[str],
    trainable: Sequence[str],
    layers: Sequence[str],
    roles: Mapping[str, Union[Role, Slot]],
) -> FrozenSet[str]:
    """Returns the names of the variables that are not trained.

    Args:
        names: The value of --freeze: names of layers, and keys of ROLES.
        trainable: The names of all variables that could be trained.
        layers: The names of the layers.
        roles: {name of a variable: its role}.

    Raises:
        ConfigError: A name is neither a layer nor a key of ROLES, or no variable belongs to it.
    """
    found = set()
    for name in names:
        if name in ROLES:
            own = [each for each in trainable if roles[each] is ROLES[name]]
        elif name in layers:
            own = [each for each in trainable if each.startswith(name + '/')]
        else:
            shown = ', '.join(layers[:MOST]) + (' and more' if len(layers) > MOST else '')
            raise ConfigError(
                f'--freeze={name}: there is no such layer; choose from the layers ({shown}), '
                f'or from {", ".join(ROLES)}'
            )
        if not own:
            raise ConfigError(
                f'--freeze={name} has no effect: nothing of it is trained in this network'
            )
        found.update(own)
    return frozenset(found)
