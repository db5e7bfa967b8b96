"""Networks of injected layers. A file here with a NETWORKS dictionary adds its names to --model;
nothing else is needed.
"""

import importlib
import pkgutil
from typing import Dict

from models.network import Network, NetworkOptions  # noqa: F401 (for those who import the package)

NETWORKS: Dict[str, Network] = {}
for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    NETWORKS.update(getattr(importlib.import_module('models.' + _module), 'NETWORKS', {}))
