"""Where executors reach the driver, by Spark's own properties."""

import pytest

from distributed_cls.spark.driver_address import DriverAddress


@pytest.mark.parametrize(
    ("conf", "host", "bind"),
    [
        ({}, "127.0.0.1", "127.0.0.1"),
        ({"spark.driver.host": "node"}, "node", "node"),
        ({"spark.driver.host": "198.51.100.7", "spark.driver.bindAddress": "0.0.0.0"}, "198.51.100.7", "0.0.0.0"),
        ({"spark.driver.host": "[fd00::1]", "spark.driver.bindAddress": "[::]"}, "fd00::1", "::"),
    ],
)
def test_what_executors_connect_to_and_what_the_driver_listens_on(conf: dict[str, str], host: str, bind: str) -> None:
    assert DriverAddress.of(conf) == DriverAddress(host, bind)  # type: ignore[arg-type]  # get is all that it needs
