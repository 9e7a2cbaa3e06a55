"""The networks of ``keras.applications``: how each wants its pixels, and its ImageNet weights as a file."""

import contextlib
import fcntl
import math
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from distributed_cls import storage
from distributed_cls.errors import UserError
from distributed_cls.text import first_line

if TYPE_CHECKING:
    import keras

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB, of values 0 to 1
_CAFFE_MEAN = (123.68, 116.779, 103.939)  # of ImageNet, RGB, of values 0 to 255

# What ``preprocess_input`` of each one's module does. "inside": nothing, since the network itself does it.
PREPROCESSING = {
    **dict.fromkeys(("ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19"), "caffe"),
    **dict.fromkeys(("ResNet50V2", "ResNet101V2", "ResNet152V2"), "tf"),
    **dict.fromkeys(("InceptionV3", "InceptionResNetV2", "Xception", "NASNetMobile", "NASNetLarge"), "tf"),
    **dict.fromkeys(("MobileNet", "MobileNetV2"), "tf"),
    **dict.fromkeys(("DenseNet121", "DenseNet169", "DenseNet201"), "torch"),
    **dict.fromkeys(("MobileNetV3Small", "MobileNetV3Large"), "inside"),
    **dict.fromkeys([f"EfficientNetB{number}" for number in range(8)], "efficientnet"),
    **dict.fromkeys([f"EfficientNetV2{kind}" for kind in ("B0", "B1", "B2", "B3", "S", "M", "L")], "inside"),
    **dict.fromkeys([f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")], "inside"),
}
NETWORKS = tuple(sorted(PREPROCESSING))
LEAST_SIZE = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}  # pixels; 32 for the others
WITH_ALPHA = ("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large")

_SILENCE_SECONDS = 60  # of a download before it is given up


def make(network: str, size: int, alpha: float | None = None, weights: str | None = None) -> "keras.Model":
    """The network without its top: prepared pixels [N, size, size, 3] → features [N, D], pooled."""
    import keras

    width = {} if alpha is None else {"alpha": alpha}
    model: keras.Model = getattr(keras.applications, network)(
        include_top=False, weights=weights, input_shape=(size, size, 3), pooling="avg", name="backbone", **width
    )
    return model


def prepared(network: str, pixels: "keras.KerasTensor") -> "keras.KerasTensor":
    """Pixels [N, S, S, 3], RGB from 0 to 255, as ``network`` wants them: by stock layers alone."""
    import keras

    mode = PREPROCESSING[network]
    if mode == "caffe":  # less the mean, and as BGR
        one = (1.0, 1.0, 1.0)
        return keras.ops.flip(
            keras.layers.Normalization(mean=_CAFFE_MEAN, variance=one, name="normalise")(pixels), axis=-1
        )
    if mode == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1, name="normalise")(pixels)
    if mode == "torch":
        mean, variance = [255 * value for value in _MEAN], [(255 * value) ** 2 for value in _DEVIATION]
        return keras.layers.Normalization(mean=mean, variance=variance, name="normalise")(pixels)
    if mode == "efficientnet":
        # With its ImageNet weights Keras divides the normalised pixels by these roots once more, in a layer that it
        # leaves out with all others; the same here, before the normalisation.
        scale = [1 / math.sqrt(value) for value in _DEVIATION]
        offset = [255 * mean * (1 - factor) for mean, factor in zip(_MEAN, scale, strict=True)]
        return keras.layers.Rescaling(scale, offset, name="normalise")(pixels)
    return pixels


def write_imagenet(network: str, size: int, alpha: float | None, file: Path) -> None:
    """Write the ImageNet weights of ``network`` to ``file`` (``.weights.h5``), whole or not at all.

    Raises UserError when there are none, or they cannot be downloaded.
    """
    socket.setdefaulttimeout(_SILENCE_SECONDS)
    file.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(file.parent):
        try:
            model = make(network, size, alpha, "imagenet")
        except Exception as error:  # Keras raises a bare Exception when a download fails
            raise UserError(
                f"Expected to download the ImageNet weights of {network} (model.weights=imagenet). Received: "
                f"{first_line(error)}. Without a network, set model.weights to a weights file, or to null."
            ) from error
        with storage.replacing(file) as temporary:
            whole = temporary.with_name(f"{temporary.name}.weights.h5")  # Keras goes by the name
            model.save_weights(whole)
            whole.replace(temporary)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keras downloads into the final file, where another process would find half of it."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> NoReturn:
    """``write_imagenet`` with the arguments of this process, which the driver starts since it never imports Keras.

    Exit code 2 after one line of output: the user can fix it.
    """
    from distributed_cls.models.tensorflow_import import import_tensorflow

    network, size, alpha, file = sys.argv[1:]
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU belongs to a rank
    import_tensorflow()
    try:
        write_imagenet(network, int(size), float(alpha) if alpha else None, Path(file))
    except UserError as error:
        print(error)
        sys.exit(2)
    sys.exit(0)
