"""One meaning of "local": the table is that of Spark's Utils.isLocalMaster and of SparkContext's master URLs."""

import os

import pytest

from distributed_cls.spark.master import is_local, is_local_cluster, on_this_machine, with_slots


@pytest.mark.parametrize(
    ("master", "local", "cluster"),
    [
        ("local", True, False),
        ("local[2]", True, False),
        ("local[*]", True, False),
        ("local[2,4]", True, False),
        ("local[*,4]", True, False),
        ("local-cluster[1,2,1024]", False, True),
        ("localhost", False, False),
        ("local-", False, False),
        ("spark://local:7077", False, False),
        ("k8s://https://local", False, False),
        ("yarn", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_what_a_master_means(master: str | None, local: bool, cluster: bool) -> None:
    assert is_local(master) is local
    assert is_local_cluster(master) is cluster
    assert on_this_machine(master) is (local or cluster)


@pytest.mark.parametrize(
    ("master", "six_cores", "one_core"),
    [
        ("local[*]", "local[6]", "local[2]"),  # one core: two ranks share it
        ("local", "local[6]", "local[2]"),
        ("local[*,3]", "local[6,3]", "local[2,3]"),
        ("local[1]", "local[1]", "local[1]"),
        ("local[3,2]", "local[3,2]", "local[3,2]"),
        ("local-cluster[1,2,1024]", "local-cluster[1,2,1024]", "local-cluster[1,2,1024]"),
        ("spark://node:7077", "spark://node:7077", "spark://node:7077"),
    ],
)
def test_a_local_master_has_a_count_of_slots(
    monkeypatch: pytest.MonkeyPatch, master: str, six_cores: str, one_core: str
) -> None:
    for cores, expected in ((6, six_cores), (1, one_core)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert with_slots(master) == expected
