"""Where executors reach the driver, and where it listens: two addresses behind NAT, in a container, or a pod."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark import SparkConf


@dataclass(frozen=True)
class DriverAddress:
    """Names or IP addresses, an IPv6 address without brackets."""

    host: str  # that executors connect to: spark.driver.host
    bind: str  # that the driver listens on: spark.driver.bindAddress

    @classmethod
    def of(cls, conf: "SparkConf") -> "DriverAddress":
        """As Spark's own driver has it."""
        host = conf.get("spark.driver.host", None) or "127.0.0.1"
        return cls(_bare(host), _bare(conf.get("spark.driver.bindAddress", None) or host))


def _bare(host: str) -> str:
    return host.removeprefix("[").removesuffix("]")
