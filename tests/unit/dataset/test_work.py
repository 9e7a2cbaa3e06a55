"""What a task does, without Spark: parts, shards, ranges, and the memory it takes for that."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from distributed_cls.contracts import index, tfrecord
from distributed_cls.dataset import listing, reading, shard_plan, work
from distributed_cls.images.decode import Spec

from .support import PEAK, encoded, photo

MEMORY = (
    PEAK
    + """
import sys
import pyarrow as pa
from distributed_cls.contracts import index
from distributed_cls.dataset import listing, work
from distributed_cls.images.decode import Spec

folder, count = sys.argv[1], int(sys.argv[2])
rows = listing.Rows()
for number in range(count):
    rows.add(f"{number % 20}.jpg", "a", 1, number, row=number)
job = work.DecodeJob(folder, folder, Spec(224), "raw", 95)
work.decode_part(job, f"{count}-{count}", rows.table())
done = index.read(f"{folder}/part-{count}-{count}.parquet")
shard = done.select(["file", "offset", "length", "key"]).append_column("label", pa.array([0] * count, pa.int64()))
assert work.write_shard(folder, f"{count}.tfrecord", shard).bytes > count * 224 * 224 * 3
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
print(peak_megabytes())
"""
)


def rows_of(*names: str) -> pa.Table:
    rows = listing.Rows()
    for name in names:
        rows.add(name, "a", 100, 0)
    return rows.table()


def test_a_task_stays_under_300_mb_whatever_it_writes(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(encoded(photo(500, 375, number), "JPEG", quality=85))
    used = []
    for count in (50, 1500):  # 7 MB and 226 MB of shard
        command = [sys.executable, "-c", MEMORY, str(tmp_path), str(count)]
        used.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert used[1] < 300 and used[1] - used[0] < 30, used


@pytest.mark.parametrize("encoding", ["png", "raw", "jpeg"])
def test_a_part_holds_what_its_index_says(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "good.png").write_bytes(encoded(photo(40, 30), "PNG"))
    (tmp_path / "bad.png").write_bytes(b"nothing")
    job = work.DecodeJob(str(tmp_path), str(tmp_path), Spec(16), encoding, 90)
    assert work.decode_part(job, "x-3", rows_of("good.png", "bad.png", "gone.png")) == 3
    table = index.read(str(tmp_path / "part-x-3.parquet"))
    assert dict(zip(table["path"].to_pylist(), table["reason"].to_pylist(), strict=True)) == {
        "good.png": None,
        "bad.png": "not_an_image",
        "gone.png": "missing",
    }
    kept = table.filter(pa.compute.is_null(table["reason"]))
    (image,) = reading.ranges(kept)
    pixels = np.frombuffer(image, np.uint8).reshape(16, 16, 3) if encoding == "raw" else None
    if encoding == "png":
        pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert pixels is None or work.content_key(pixels) == kept["key"][0].as_py()


def test_images_are_found_in_a_shard_by_their_offsets(tmp_path: Path) -> None:
    images = [bytes([number]) * (10 + number) for number in range(9)]
    (tmp_path / "x.bin").write_bytes(b"".join(images))
    lengths = [len(image) for image in images]
    rows = pa.table(
        {
            "file": [str(tmp_path / "x.bin")] * 9,
            "offset": np.cumsum([0, *lengths[:-1]]),
            "length": lengths,
            "label": list(range(9)),
            "key": [bytes([number]) * 16 for number in range(9)],
        }
    )
    result = work.write_shard(str(tmp_path), "s.tfrecord", rows)
    content = (tmp_path / "s.tfrecord").read_bytes()
    assert len(content) == result.bytes
    found = [content[start : start + length] for start, length in zip(result.offsets, lengths, strict=True)]
    assert found == images
    with (tmp_path / "s.tfrecord").open("rb") as stream:
        assert [tfrecord.parse_example(record)["label"] for record in tfrecord.read_frames(stream)] == list(range(9))


def test_tasks_are_balanced_by_bytes_and_cover_all() -> None:
    rows = listing.Rows()
    random = np.random.default_rng(0)
    for number in range(4000):
        rows.add(f"{number:05d}", "a", int(random.lognormal(12, 1)), 0)
    table = rows.table()
    parts = shard_plan.decode_parts(table, 4)
    assert len(parts) % 4 == 0
    sizes = [index.from_bytes(part.rows)["size"].to_numpy().sum() for part in parts]
    assert max(sizes) < 1.15 * min(sizes)
    assert [part.images for part in parts] == [index.from_bytes(part.rows).num_rows for part in parts]
    together = pa.concat_tables([index.from_bytes(part.rows) for part in parts])
    assert together["path"].to_pylist() == table["path"].to_pylist()
    assert len(shard_plan.decode_parts(table.slice(0, 1), 4)) == 1
