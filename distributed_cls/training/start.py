"""The first minute of a rank: the TensorFlow runtime, its cluster, its data; then the steps of the task."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from distributed_cls import storage
from distributed_cls.config import ClusterConfig, Config, TrainConfig, to_dict
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts import manifest as manifests
from distributed_cls.contracts.counts import Counts
from distributed_cls.contracts.events import FailureKind, Phase
from distributed_cls.contracts.manifest import Manifest
from distributed_cls.contracts.rank_task import RankAssignment, RankResult, RankTask, Step
from distributed_cls.errors import UserError
from distributed_cls.models.building import build
from distributed_cls.training import loop, resuming, run_state, shard_cache
from distributed_cls.training.context import RankContext
from distributed_cls.training.evaluator import evaluate
from distributed_cls.training.input import Source
from distributed_cls.training.latest_state import LatestState
from distributed_cls.training.replicated import ReplicatedModel
from distributed_cls.training.reporter import Reporter
from distributed_cls.training.sharding import Range, RankLanes, ranges_of, rank_run, train_steps


class PortLost(RuntimeError):
    """The port that the rendezvous gave to this rank could not be bound: repeat the rendezvous with another one."""

    failure = FailureKind.PORT


def perform(assignment: RankAssignment, reporter: Reporter, latest: LatestState | None = None) -> RankResult:
    """Do the steps of a rank's task, together with the other ranks. ``latest``: states that an earlier attempt left.

    The result is the same on every rank. Raises UserError for what the user can fix.
    """
    task = assignment.task
    configure_runtime(task.config, task.threads)
    reporter.phase(Phase.CLUSTER)
    strategy = _join_cluster(task.config)
    reporter.phase(Phase.DATASET)
    manifest = manifests.load(task.dataset)
    own = own_ranges(manifest, task.config.train, assignment.rank, assignment.world_size)
    sources = open_sources(manifest, task.dataset, own, task.config.cluster, reporter.progress)

    def build_model() -> keras.Model:
        return build(task.config.model, manifest.image_size, len(manifest.classes))

    reporter.phase(Phase.MODEL)
    config = task.config.train
    records = [shard.records for shard in manifest.shards["train"]]
    total_steps = train_steps(records, config.batch_size) * config.epochs
    ctx = RankContext(
        config=task.config,
        manifest=manifest,
        sources=sources,
        replicated=ReplicatedModel(strategy, build_model, config, total_steps),
        reporter=reporter,
        rank=assignment.rank,
        world_size=assignment.world_size,
        threads=task.threads,
        run_folder=Path(task.run_folder),
        latest=latest,
    )
    result = _do_steps(ctx, task, build_model)
    reporter.phase(Phase.FINISH)
    return result


def _do_steps(ctx: RankContext, task: RankTask, build_model: Callable[[], keras.Model]) -> RankResult:
    trained = None
    if Step.TRAIN in task.steps:
        position = resuming.resume(ctx)
        trained = loop.train(ctx, position)
        weights = ctx.checkpoints / checkpoint.BEST
        # Rank 0 wrote it; nobody reads before that is over.
        ctx.replicated.barrier()
    else:
        assert task.checkpoint is not None, "a task without training names its weights"
        weights = Path(task.checkpoint)
    run_state.load(weights, ctx.replicated.model.variables)
    counts = evaluate(ctx) if Step.EVALUATE in task.steps else {}
    if Step.EXPORT in task.steps:
        _export(ctx, build_model, counts)
    return RankResult(trained, counts)


def configure_runtime(config: Config, threads: int) -> None:
    """Threads, GPUs, seed, determinism and precision of this process, before its first operation."""
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


def _join_cluster(config: Config) -> tf.distribute.Strategy:
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


def own_ranges(manifest: Manifest, train: TrainConfig, rank: int, world_size: int) -> dict[str, list[Range]]:
    """The records of each split that ``rank`` reads."""
    found = {}
    for split, shards in manifest.shards.items():
        records = [shard.records for shard in shards]
        run = rank_run(records, world_size, rank)
        if split == "train":
            run = RankLanes.of(records, train, world_size, rank).run
        found[split] = ranges_of(records, run)
    return found


def open_sources(
    manifest: Manifest,
    folder: str,
    ranges: dict[str, list[Range]],
    cluster: ClusterConfig,
    progress: Callable[[int, int], None],
) -> dict[str, Source]:
    """This rank's part of each split.

    The shards that it reads are checked first, and copied to this machine when ``folder`` is a URL; ``progress`` is
    given the bytes that are done, and of all.
    """
    own = [manifest.shards[split][part.shard] for split, parts in ranges.items() for part in parts]
    here = folder
    if storage.is_url(folder):
        here = shard_cache.fetch(folder, own, cluster, progress)
    else:
        done, total = 0, sum(shard.bytes for shard in own)
        for shard in own:
            manifests.check_shard(folder, shard)
            done += shard.bytes
            progress(done, total)
    return {
        split: Source(
            [str(Path(here, shard.file)) for shard in shards], ranges[split], manifest.encoding, manifest.image_size
        )
        for split, shards in manifest.shards.items()
    }


def _export(ctx: RankContext, build: Callable[[], keras.Model], counts: dict[str, Counts]) -> None:
    """Let rank 0 write the exported model, from plain variables outside the strategy."""
    # Only a task with this step pays for the imports.
    from distributed_cls.training.model_card import Card
    from distributed_cls.training.saved_model import export_model

    ctx.reporter.phase(Phase.EXPORT)
    if ctx.is_chief:
        model = build()
        for variable, trained in zip(model.variables, ctx.replicated.model.variables, strict=True):
            variable.assign(np.asarray(trained))
        manifest = ctx.manifest
        card = Card(
            model=ctx.config.model.name,
            dataset=manifest.name,
            fingerprint=manifest.fingerprint,
            counts=manifest.counts,
            metrics={split: _headline(counted) for split, counted in counts.items()},
            config=to_dict(ctx.config),
        )
        folder = ctx.run_folder / "model"
        export_model(
            model, folder, classes=manifest.classes, image_size=manifest.image_size, card=card, resize=manifest.resize
        )
    # Nobody leaves before rank 0 is done: a peer that is gone looks like a failure to TensorFlow.
    ctx.replicated.barrier()


def _headline(counts: Counts) -> dict[str, float]:
    return {
        "examples": counts.examples,
        "correct": counts.correct,
        "accuracy": counts.accuracy,
        "loss": counts.loss,
    }
