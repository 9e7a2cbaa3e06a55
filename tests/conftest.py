"""For the whole suite: failures are told when they happen, and a run that has little time keeps to it."""

import os
import time

import pytest

_BEGAN = "DISTRIBUTED_CLS_TESTS_BEGAN"  # seconds since the epoch; pytest-xdist's processes inherit it


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--begin-within",
        type=float,
        metavar="SECONDS",
        help="skip those tests of whole jobs (spark, end_to_end, clusters) that have not begun so long after the start",
    )
    parser.addoption("--clusters", action="store_true", help="run all tests on real clusters, not the short ones alone")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[_BEGAN] = str(time.time())


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes by their number: two processes must have the same names, and gzip writes the time into its header."""
    return f"{argname}-{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.hookimpl(tryfirst=True)  # before the fixtures, which are what takes the time
def pytest_runtest_setup(item: pytest.Item) -> None:
    limit = item.config.getoption("--begin-within")
    if limit is None or "unit" in item.path.relative_to(item.config.rootpath).parts:
        return
    if time.time() - float(os.environ[_BEGAN]) > limit:
        pytest.skip(f"not begun within {limit:.0f} s (--begin-within): {item.nodeid}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a failure at once: a run that is ended from outside never comes to its summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nFAILED {report.nodeid} ({report.when}, after {report.duration:.0f} s)", flush=True)
        print(report.longreprtext[-2000:], flush=True)
