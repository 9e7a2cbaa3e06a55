"""The models: one module for each, with its settings and its Keras network. Importing this package registers them all.

No Keras is imported here: the driver reads the settings and never builds a network.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
