"""Images from an S3 bucket, and a dataset into one, against a server on this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prepare_support import folder_config, image_folder, small_spark, splits, write_table
from pyspark.sql import SparkSession

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

from distributed_cls import storage
from distributed_cls.contracts import index, manifest
from distributed_cls.dataset import prepare, verify
from distributed_cls.errors import UserError
from tests.unit.storage import moto_bucket

BUCKET = "s3://pictures"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with moto_bucket.bucket("pictures"):
        yield BUCKET


@pytest.fixture(scope="module")
def spark(bucket: str) -> Iterator[SparkSession]:
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    with small_spark(environment={name: os.environ[name] for name in names}) as session:
        yield session


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def uploaded(bucket: str, local: Path) -> str:
    store, inside = storage.filesystem(f"{bucket}/in")
    store.put(str(local) + "/", inside + "/", recursive=True)
    return f"{bucket}/in"


def test_a_bucket_gives_the_same_records_as_a_folder(
    spark: SparkSession, uploaded: str, local: Path, tmp_path: Path
) -> None:
    remote = prepare.prepare(lambda: spark, folder_config(uploaded), str(tmp_path / "a"))
    here = prepare.prepare(lambda: spark, folder_config(local), str(tmp_path / "b"))
    assert splits(remote.path) == splits(here.path)
    assert remote.manifest.shards == here.manifest.shards
    assert prepare.prepare(lambda: spark, folder_config(uploaded), str(tmp_path / "a")).reused
    written = b"".join(file.read_bytes() for file in Path(remote.path).iterdir())
    assert b"a-secret-for-tests" not in written and b"a-key-for-tests" not in written


def test_a_dataset_in_a_bucket(spark: SparkSession, uploaded: str, bucket: str) -> None:
    root = f"{bucket}/datasets"
    first = prepare.prepare(lambda: spark, folder_config(uploaded), root)
    assert first.path.startswith(root) and not first.reused
    assert prepare.prepare(lambda: spark, folder_config(uploaded), root).path == first.path
    assert verify.verify(first.path).records == 60
    assert not [name for name in storage.names(root) if name.startswith(".")], "nothing temporary is left"
    store, inside = storage.filesystem(uploaded)
    store.pipe_file(f"{inside}/cat/new.png", storage.read_bytes(f"{uploaded}/cat/0000.png"))
    second = prepare.prepare(lambda: spark, folder_config(uploaded), root)
    assert second.manifest.duplicates == 1 and second.manifest.generation == 2
    store.rm(f"{inside}/cat/new.png")
    shard = second.manifest.shards["train"][0].file
    store.pipe_file(storage.filesystem(f"{second.path}/{shard}")[1], b"short")
    with pytest.raises(UserError, match=shard):
        manifest.load(second.path)


def test_what_another_process_has_written_is_seen_at_once(bucket: str) -> None:
    import s3fs

    folder = f"{bucket}/shared"
    storage.write_bytes(f"{folder}/a", b"1")
    assert storage.names(folder) == ["a"] and not storage.exists(f"{folder}/b")
    other = s3fs.S3FileSystem(skip_instance_cache=True)
    other.pipe_file("pictures/shared/b", b"22")
    assert storage.exists(f"{folder}/b") and storage.size(f"{folder}/b") == 2 and storage.names(folder) == ["a", "b"]
    other.pipe_file("pictures/shared/b", b"333")
    assert storage.size(f"{folder}/b") == 3 and storage.read_bytes(f"{folder}/b") == b"333"
    other.rm_file("pictures/shared/b")
    assert not storage.exists(f"{folder}/b") and storage.names(folder) == ["a"]
    assert storage.crc32c(f"{folder}/a") == 0x90F599E3
    with storage.replacing(f"{folder}/new/c") as temporary:
        temporary.write_bytes(b"x")
    assert storage.names(f"{folder}/new") == ["c"]


def test_a_table_of_urls(spark: SparkSession, uploaded: str, local: Path, tmp_path: Path) -> None:
    names = sorted(path.relative_to(local).as_posix() for path in local.rglob("*.*"))
    table = write_table(
        tmp_path / "t.csv",
        path=[*(f"{uploaded}/{name}" for name in names), f"{uploaded}/cat/gone.png"],
        label=[name.split("/")[0] for name in [*names, "cat/x"]],
    )
    dataset = prepare.prepare(lambda: spark, folder_config(table, source="table"), str(tmp_path / "out"))
    assert sum(dataset.manifest.records(split) for split in manifest.SPLITS) == 60
    assert dataset.manifest.rejected_by_reason == {"missing": 1}


def test_parquet_images_in_a_bucket(spark: SparkSession, bucket: str, local: Path, tmp_path: Path) -> None:
    paths = sorted(local.rglob("*.*"))
    columns = {"image": [path.read_bytes() for path in paths], "label": [path.parent.name for path in paths]}
    index.write(f"{bucket}/tables/one.parquet", index.pa.table(columns))
    config = folder_config(f"{bucket}/tables", source="parquet")
    dataset = prepare.prepare(lambda: spark, config, str(tmp_path / "out"))
    assert sum(dataset.manifest.records(split) for split in manifest.SPLITS) == 60


def test_a_missing_bucket_is_one_line(spark: SparkSession, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="s3://nowhere/x"):
        prepare.prepare(lambda: spark, folder_config("s3://nowhere/x"), str(tmp_path))
