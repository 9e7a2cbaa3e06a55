"""A configuration that another release, or a plug-in that is not there any more, has saved."""

from collections.abc import Callable
from typing import Any

import pytest

from distributed_cls.config import Config, from_dict, from_saved, to_dict
from distributed_cls.errors import UserError


def test_settings_of_another_release_are_dropped_by_name_and_missing_ones_take_their_defaults() -> None:
    values = to_dict(Config())
    values["train"] |= {"epochs": 3, "lr_decay": 0.5}
    values["telemetry"] = {"url": "x"}
    values["model"]["attention"] = True
    del values["train"]["patience"], values["stream"], values["output"]
    config, dropped = from_saved(values)
    assert sorted(dropped) == ["model.attention", "telemetry", "train.lr_decay"]
    assert (config.train.epochs, config.train.patience, config.stream) == (3, None, Config().stream)
    assert from_saved(to_dict(config)) == (config, [])


def test_limits_hold_for_what_was_saved_as_well() -> None:
    values = to_dict(Config())
    values["train"]["epochs"] = 0
    with pytest.raises(UserError, match=r"train\.epochs to be a value >= 1"):
        from_saved(values)


@pytest.mark.parametrize("read", [from_saved, from_dict])
def test_a_model_that_is_not_registered_is_named(read: Callable[[dict[str, Any]], object]) -> None:
    values = to_dict(Config())
    values["model"] = {"name": "linear", "scale": 2.0}
    with pytest.raises(
        UserError, match=r"model\.name to be one of backbone, cnn, dense, .*model\.name=linear.*PLUGINS"
    ):
        read(values)
