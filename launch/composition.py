"""Where the YAML files are, and the configuration of a list of overrides outside of ``hydra.main``."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, open_dict

# A checkout has conf/ beside launch/; the installed package carries it inside.
_CHECKOUT = Path(__file__).resolve().parent.parent / "conf"
CONF = str(_CHECKOUT) if (_CHECKOUT / "config.yaml").is_file() else "pkg://launch.conf"


def compose(overrides: Sequence[str]) -> tuple[DictConfig, Path]:
    """The configuration of ``overrides``, unchecked, and the folder that its run gets. Raises what Hydra raises."""
    with initialized():
        composed = hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
        folder = Path(composed.hydra.run.dir)
        with open_dict(composed):
            del composed["hydra"]
        return composed, folder


def settings_given(overrides: Iterable[str]) -> frozenset[str]:
    """The settings and groups that ``overrides`` name, by their dotted names."""
    return frozenset(item.partition("=")[0].lstrip("+") for item in overrides)


@contextmanager
def initialized() -> Iterator[ConfigLoader]:
    """Hydra, with our YAML files and those of plug-ins; what the caller has made of Hydra is there again afterwards."""
    start = hydra.initialize_config_module if CONF.startswith("pkg://") else hydra.initialize_config_dir
    with start(CONF.removeprefix("pkg://"), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()
