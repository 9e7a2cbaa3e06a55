"""A full disk or missing permission is one line, wherever it was met; everything else stays what it is."""

import errno

import pytest

from distributed_cls.errors import RunError, UserError
from distributed_cls.inference.output_errors import output_named

FROM_A_TASK = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 1 in stage 0.0 failed 1 times
Traceback (most recent call last):
  File "files.py", line 129, in replacing
OSError: [Errno 28] No space left on device: '/results/.part-00001.parquet.tmp'
"""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (PermissionError(errno.EACCES, "Permission denied", "/results/x"), "/results/x"),
        (RuntimeError(FROM_A_TASK), r"OSError: \[Errno 28\] No space left on device: '/results/\.part-00001"),
    ],
    ids=["full", "quota", "no permission", "full, in a task"],
)
def test_what_the_owner_of_the_machine_can_put_right(error: Exception, words: str) -> None:
    with (
        pytest.raises(UserError, match=rf"output=/results \(.*{words}.*\)\. Free some space") as raised,
        output_named("/results"),
    ):
        raise error
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "error", [RunError("[Errno 28]"), UserError("[Errno 28]"), ValueError("x"), KeyboardInterrupt()]
)
def test_other_errors_stay_what_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, output_named("/results"):
        raise error
    assert raised.value is error
