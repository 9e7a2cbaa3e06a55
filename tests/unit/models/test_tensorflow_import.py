"""TensorFlow's import: without what Keras may use, which stays importable, and whatever the machine's settings are."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE

_PROGRAM = """
import json, sys
from distributed_cls.models.tensorflow_import import import_tensorflow
import_tensorflow()
came = [name for name in ("matplotlib", "pandas", "sklearn", "scipy.stats") if name in sys.modules]
import keras
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
import pandas, sklearn, matplotlib.pyplot
settings = [keras.backend.backend(), keras.config.floatx(), keras.config.image_data_format()]
print(json.dumps([came, model.count_params(), pandas.Series([1, 2]).sum().item(), settings]))
"""


def test_the_import_takes_nothing_along_hides_nothing_and_does_not_heed_keras_json(tmp_path: Path) -> None:
    others = {"backend": "jax", "floatx": "float64", "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(others))
    environment = {**os.environ, "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "torch"}
    told = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=PATIENCE, check=True, env=environment
    ).stdout
    assert json.loads(told.splitlines()[-1]) == [[], 3, 3, ["tensorflow", "float32", "channels_last"]]
