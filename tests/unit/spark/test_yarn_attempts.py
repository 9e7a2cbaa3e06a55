"""Which attempt of a YARN application this is."""

import pytest

from distributed_cls.spark.yarn_attempts import attempt_number, refuse_again, remember_refusal


@pytest.mark.parametrize(
    ("container", "attempt"),
    [
        ("container_1764241234567_0001_01_000001", 1),
        ("container_1764241234567_0001_02_000001", 2),
        ("container_e17_1764241234567_0012_03_000007", 3),
        ("", 1),
        ("other", 1),
    ],
)
def test_the_attempt_is_in_the_name_of_the_container(container: str, attempt: int) -> None:
    assert attempt_number(container) == attempt


def test_outside_of_yarn_nothing_is_left_or_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_YARN_STAGING_DIR", raising=False)
    remember_refusal("Expected this. Received: that.")
    refuse_again()
