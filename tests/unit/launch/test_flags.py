"""A flag that is not there is one line, with what was meant."""

import pytest

from distributed_cls.errors import UserError
from launch import flags


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hlp"], "Unknown flag --hlp. Did you mean --help?"),
        (["--multirn", "model=cnn"], "Unknown flag --multirn. Did you mean --multirun?"),
        (["--epochs=3"], "Unknown flag --epochs=3. Settings have no dashes: train.epochs=3. See"),
        (["--learning-rate", "1"], "Unknown flag --learning-rate. Settings have no dashes: train.learning_rate=…. See"),
        (["-x"], "Unknown flag -x. Settings have no dashes: key=value. See"),
        (["--cfg"], "Received: --cfg/-c: expected one argument."),
        (["--cfg", "all of it"], "Received: --cfg/-c: invalid choice: 'all of it'"),
        (["=3"], "Expected key=value. Received: =3."),
        (["data=null"], "Expected the name of a choice of data. Received: data=null."),
        (["model=cnn", "cluster=3"], "Received: cluster=3."),
    ],
)
def test_an_unknown_flag_is_named_with_what_was_meant(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        flags.check(arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-m", "model=cnn,dense"],
        ["--cfg", "job"],
        ["--", "model=cnn"],
        ["~data", "+a=1"],
        ["model='cnn'", "data=[digits]"],
    ],
)
def test_what_hydra_has_passes(arguments: list[str]) -> None:
    flags.check(arguments)
