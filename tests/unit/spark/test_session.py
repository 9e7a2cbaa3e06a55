"""When two clusters share a session, and what a session refuses to start on. No Spark here."""

from pathlib import Path
from typing import Any

import pytest

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.spark.session import Session


def fits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return Session(ClusterConfig(**one), Path("a")).fits(ClusterConfig(**other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"workers": 2}, {"workers": 4, "stall_timeout": 5, "slot_timeout": 7, "name": "another"}),
        ({"master": "local"}, {"master": "local[*]"}),
        ({"spark": {"spark.executor.cores": 2}}, {"spark": {"spark.executor.cores": "2"}}),
        ({"spark": {"spark.a": "1", "spark.b": "2"}}, {"spark": {"spark.b": "2", "spark.a": "1"}}),
        ({"master": "spark://h:1"}, {"master": "local[2]", "spark": {"spark.master": "spark://h:1"}}),
        (  # the administrator's cluster hands out one GPU a task, whatever the number of ranks
            {"master": "spark://h:1", "workers": 1, "gpus_per_worker": 1},
            {"master": "spark://h:1", "workers": 4, "gpus_per_worker": 1},
        ),
    ],
)
def test_trials_share_a_session_with_equal_properties(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fits(one, other) and fits(other, one)


_GPU4 = {"master": "local-cluster[1,8,16384]", "gpus_per_worker": 1}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({**_GPU4, "workers": 1}, {**_GPU4, "workers": 2}),  # Spark's one worker has as many GPUs as there are ranks
        ({}, {"master": "local[7]"}),
        ({}, {"python": "/usr/bin/python3"}),
        ({}, {"rendezvous_timeout": 7}),
        ({}, {"spark": {"spark.executor.memory": "4g"}}),
        ({"master": "yarn", "gpus_per_worker": 0}, {"master": "yarn", "gpus_per_worker": 1}),
        (
            {"master": "yarn", "workers": 1, "spark": {"spark.executor.instances": 1}},
            {"master": "yarn", "workers": 2, "spark": {"spark.executor.instances": 2}},
        ),
    ],
)
def test_trials_with_other_properties_get_a_session_each(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert not fits(one, other) and not fits(other, one)


def test_without_a_master_there_must_be_a_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    with pytest.raises(UserError, match=r"cluster\.master=null means\. Received: neither\. Set cluster\.master="):
        Session(ClusterConfig(master=None), tmp_path / "run").spark  # noqa: B018 - starting it is the point
    assert not (tmp_path / "run").exists()
