"""A rank's first minute: the TensorFlow runtime, its cluster, its data; then the work of the order."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from distributed_cls.config import Config, from_dict
from distributed_cls.contracts import manifest as manifests
from distributed_cls.errors import UserError
from distributed_cls.models.registry import build
from distributed_cls.training import checkpoint, run
from distributed_cls.training.checkpoint import Position
from distributed_cls.training.context import Rank
from distributed_cls.training.engine import Engine
from distributed_cls.training.evaluator import evaluate
from distributed_cls.training.input import Source
from distributed_cls.training.reporter import Events
from distributed_cls.training.sharding import rank_ranges, train_steps


class PortLost(RuntimeError):
    """The port that the rendezvous gave to this rank could not be bound: meet again with another one."""

    kind = "port"


def perform(order: dict[str, Any], events: Events) -> None:
    """Do the order's work: ``{"config", "dataset", "run_folder", "work", "rank", "world", "threads", "parent"}``.

    ``work`` is some of train, evaluate, export, in that order; without train, ``checkpoint`` names what to load.
    """
    config = from_dict(order["config"])
    _configure_runtime(config, order["threads"])
    strategy = _join_cluster(config, events)
    events.phase("dataset")
    manifest = manifests.load(order["dataset"])
    rank, world, threads = order["rank"], order["world"], order["threads"]
    sources = _open_sources(manifest, order["dataset"], rank, world)

    def build_model() -> keras.Model:
        return build(config.model, manifest.image_size, len(manifest.classes))

    events.phase("model")
    steps = train_steps([shard.records for shard in manifest.shards["train"]], world, config.train.batch_size)
    engine = Engine(strategy, build_model, config.train, steps * config.train.epochs)
    me = Rank(config, manifest, sources, engine, events, rank, world, threads, Path(order["run_folder"]))
    result = _work(me, order, build_model)
    events.emit("result", result=result)


def _work(me: Rank, order: dict[str, Any], build_model: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    work = order["work"]
    if "train" in work:
        position = _resume(me, me.checkpoints / "last.npz")
        me.engine.vary_dropout(me.rank)
        result["train"] = run.train(me, position)
        source = me.checkpoints / "best.npz"
        # Rank 0 wrote it; nobody reads before that is over.
        me.engine.barrier()
    else:
        source = Path(order["checkpoint"])
    checkpoint.load(source, me.engine.model.variables)
    if "evaluate" in work:
        result |= evaluate(me)
    if "export" in work:
        run.export(me, build_model, Path(order["run_folder"], "model"), result)
    return result


def _configure_runtime(config: Config, threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    # Two at least: with one, an input or a collective that waits would hold up the other.
    tf.config.threading.set_inter_op_parallelism_threads(max(2, threads))
    gpus = tf.config.list_physical_devices("GPU")
    wanted = config.cluster.gpus_per_worker
    if len(gpus) != wanted:
        raise UserError(
            f"Expected TensorFlow to see {wanted} GPU(s) on every worker (cluster.gpus_per_worker). "
            f"Received: {len(gpus)}. Install the gpu extra and a driver there, or choose a cluster without GPUs."
        )
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    keras.utils.set_random_seed(config.train.seed)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    if config.train.mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_float16" if gpus else "mixed_bfloat16")


def _join_cluster(config: Config, events: Events) -> tf.distribute.Strategy:
    events.phase("cluster")
    implementation = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=implementation.NCCL if config.cluster.gpus_per_worker else implementation.RING
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except tf.errors.UnknownError as error:
        if "gRPC server" in str(error):
            raise PortLost(str(error)) from error
        raise


def _open_sources(manifest: manifests.Manifest, folder: str, rank: int, world: int) -> dict[str, Source]:
    """This rank's part of each split; the shards that it will read are checked against the manifest first."""
    sources = {}
    for split, shards in manifest.shards.items():
        ranges = rank_ranges([shard.records for shard in shards], world, rank)
        for part in ranges:
            manifests.check_shard(folder, shards[part.shard])
        files = [str(Path(folder, shard.file)) for shard in shards]
        sources[split] = Source(files, ranges, manifest.encoding, manifest.image_size)
    return sources


def _resume(me: Rank, last: Path) -> Position:
    """Continue from ``last`` when an earlier attempt of this run left it; otherwise begin."""
    if me.chief:
        for leftover in last.parent.glob(".*.tmp"):  # of an attempt that was killed while it wrote
            leftover.unlink()
    if not last.exists():
        return Position(dataset=me.manifest.fingerprint)
    position = checkpoint.load(last, me.engine.variables)
    if position.dataset != me.manifest.fingerprint:
        raise UserError(
            f"Expected {last} to come from data set {me.manifest.fingerprint}. Received: {position.dataset}. "
            "Choose an empty run folder."
        )
    print(f"Resumed after epoch {position.epoch} (step {position.step}).", flush=True)
    return position
