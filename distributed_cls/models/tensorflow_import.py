"""TensorFlow's import without what Keras would take along: a third to a half of its time."""

import os
import sys

# Keras imports these where they are installed, for wrappers, plots and tables that a process of ours never asks of it.
# With scikit-learn (and SciPy's statistics), Matplotlib and pandas hidden, the import took 0.46 to 0.65 of its time
# (four pairs side by side, on two cores).
_UNUSED = ("IPython", "matplotlib", "pandas", "sklearn")


def import_tensorflow() -> None:
    """Import TensorFlow and Keras as if the packages that they only may use were not installed.

    For processes that do nothing else with Keras: ranks, Spark's Python workers, the server. Everyone may import those
    packages afterwards; without effect on those that are imported already. Not while another thread imports them.
    """
    # ~/.keras/keras.json and the shell may say otherwise, and must not decide what a run computes.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    hidden = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is how Python says "not to be found"
    try:
        import keras
        import tensorflow  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
