"""The networks, each built from injected layers.

A module in this package that has a NETWORKS dictionary adds its networks to --model. Nothing else
is needed.
"""

import importlib
import pkgutil
from typing import Dict

from models.network import Network, NetworkOptions  # noqa: F401 (exported)

NETWORKS: Dict[str, Network] = {}
for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    NETWORKS.update(getattr(importlib.import_module('models.' + _module), 'NETWORKS', {}))
