"""How ranks meet: facts that must agree."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

import distributed_cls
from distributed_cls.barrier.rendezvous import local_facts, own_address, refusal, tf_config
from distributed_cls.contracts import rank_facts
from distributed_cls.contracts.rank_facts import RankFacts
from tests.shards import records, write_dataset

FACTS = RankFacts(
    host="10.0.0.1",
    port=4000,
    python="3.11.7",
    tensorflow="2.21.0",
    keras="3.15.1",
    distributed_cls="0.1.0",
    dataset="abc",
    run_folder=True,
    gpus=1,
)
OTHER = dataclasses.replace(FACTS, host="10.0.0.2", port=5000)


def test_ranks_that_agree_may_train() -> None:
    everyone = [FACTS, OTHER]
    assert refusal(everyone, "abc", 1) is None


@pytest.mark.parametrize(
    ("fact", "value", "remedy"),
    [
        ("python", "3.10.1", "same Python"),
        ("tensorflow", "2.20.0", "same TensorFlow"),
        ("keras", "not installed", "same Keras"),
        ("distributed_cls", "0.0.9", "same release"),
        ("dataset", "def", "dataset_root"),
        ("run_folder", False, "hydra.run.dir"),
        ("gpus", 0, "cluster.gpus_per_worker"),
    ],
)
def test_each_difference_is_refused_with_its_rank_and_a_remedy(fact: str, value: object, remedy: str) -> None:
    why = refusal([FACTS, FACTS, dataclasses.replace(FACTS, host="10.0.0.9", **{fact: value})], "abc", 1)
    assert why is not None and "\n" not in why
    expected, received = f"{fact}={getattr(FACTS, fact)}", f"{fact}={value}"
    if value == "not installed":
        expected, received = fact, "not installed"
    assert why.startswith(f"Expected {expected} on every rank. Received: {received} on rank 2 (10.0.0.9).")
    assert remedy in why


def test_what_the_driver_means_counts_also_when_all_ranks_agree() -> None:
    assert "dataset=new on every rank. Received: dataset=abc on rank 0" in str(refusal([FACTS, FACTS], "new", 1))
    assert "Expected gpus=2" in str(refusal([FACTS], "abc", 2))
    nowhere = dataclasses.replace(FACTS, tensorflow="not installed")
    assert "Expected tensorflow on every rank. Received: not installed" in str(refusal([nowhere, nowhere], "abc", 1))


def test_local_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = records(6)
    (tmp_path / "marker").touch()
    content = write_dataset(tmp_path / "data", {split: [part] for split in ("train", "val", "test")})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    facts = local_facts("10.0.0.1", 4000, str(tmp_path / "data"), str(tmp_path / "marker"))
    assert facts.dataset == content.fingerprint
    assert facts.gpus == 2 and facts.run_folder is True
    assert facts.python == ".".join(map(str, sys.version_info[:3]))
    assert facts.distributed_cls == distributed_cls.__version__  # also where only a zip of it travelled
    assert rank_facts.loads(rank_facts.dumps(facts)) == facts
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    elsewhere = local_facts("10.0.0.1", 4000, str(tmp_path / "nothing"), str(tmp_path / "nothing"))
    assert "has no manifest.json" in elsewhere.dataset
    assert elsewhere.gpus == 0 and elsewhere.run_folder is False


def test_tf_config_lists_all_ranks_in_order() -> None:
    everyone = [FACTS, OTHER]
    assert json.loads(tf_config(everyone, 1)) == {
        "cluster": {"worker": ["10.0.0.1:4000", "10.0.0.2:5000"]},
        "task": {"type": "worker", "index": 1},
    }


def test_an_ipv6_address_stands_in_brackets() -> None:
    everyone = [FACTS, dataclasses.replace(OTHER, host="fd00::2")]
    assert json.loads(tf_config(everyone, 0))["cluster"]["worker"] == ["10.0.0.1:4000", "[fd00::2]:5000"]


def test_the_own_address_is_the_one_towards_the_driver() -> None:
    assert own_address(("127.0.0.1", 4000)) == "127.0.0.1"
