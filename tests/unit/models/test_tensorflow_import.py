"""TensorFlow's import in a rank: without what Keras may use, which stays importable."""

import json
import subprocess
import sys

from tests.patience import PATIENCE

_PROGRAM = """
import json, sys
from distributed_cls.models.tensorflow_import import import_tensorflow
import_tensorflow()
came = [name for name in ("matplotlib", "pandas", "sklearn", "scipy.stats") if name in sys.modules]
import keras
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
import pandas, sklearn, matplotlib.pyplot
print(json.dumps([came, model.count_params(), pandas.Series([1, 2]).sum().item()]))
"""


def test_the_import_takes_nothing_along_and_hides_nothing_afterwards() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=PATIENCE, check=True
    ).stdout
    assert json.loads(told.splitlines()[-1]) == [[], 3, 3]
