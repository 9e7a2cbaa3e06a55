"""The product on YARN and HDFS."""

import pytest

from tests.clusters.conftest import Client
from tests.clusters.hadoop import Hadoop

# A node has 8 GB: two executors of this size fit on it, and their ranks into them.
SMALL = "+cluster.spark={spark.executor.memory:512m,spark.executor.memoryOverhead:2g}"


@pytest.mark.short
def test_executors_of_both_nodes_prepare(yarn: Hadoop, client: Client) -> None:
    ended = client("job=prepare", "cluster=yarn", "data.split_salt=yarn", SMALL)
    assert ended.code == 0, ended.output
    assert sum(ended.summary["dataset"]["counts"]["train"].values()) == 1259
    last = yarn.applications()[-1]
    assert (last["applicationType"], last["finalStatus"]) == ("SPARK", "SUCCEEDED")
