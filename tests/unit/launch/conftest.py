"""The real conf/, composed as the command line does it."""

from collections.abc import Callable, Iterator

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from distributed_cls.config import Config
from launch import schema
from launch.composition import CONF

Composed = Callable[..., Config]


@pytest.fixture
def composed() -> Iterator[Composed]:
    """``composed("model=dense", …)``: the framework's own objects, or whatever is raised on the way."""
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=CONF, version_base="1.3"):
        yield lambda *overrides: schema.to_config(compose("config", overrides=list(overrides)))
