"""The first minute of a rank: the TensorFlow runtime, its cluster, its data; then the steps of the task."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from distributed_cls import storage
from distributed_cls.config import ClusterConfig, Config, to_dict
from distributed_cls.contracts import checkpoint, features
from distributed_cls.contracts import manifest as manifests
from distributed_cls.contracts.confidence import Confidence
from distributed_cls.contracts.counts import Counts
from distributed_cls.contracts.evaluation_counts import EvaluationCounts
from distributed_cls.contracts.events import FailureKind, Phase
from distributed_cls.contracts.manifest import Manifest, Shard
from distributed_cls.contracts.rank_task import RankAssignment, RankResult, RankTask, Step
from distributed_cls.errors import UserError
from distributed_cls.models.building import build
from distributed_cls.models.pretrained import PretrainedSettings, unfreeze_top
from distributed_cls.training import interruption, loop, pace, resuming, run_state, shard_cache, start_weights
from distributed_cls.training.balance import balanced_order, stored_labels
from distributed_cls.training.context import RankContext, epoch_records
from distributed_cls.training.evaluator import evaluate, exported_model
from distributed_cls.training.input import Source
from distributed_cls.training.latest_state import LatestState
from distributed_cls.training.replicated import ReplicatedModel
from distributed_cls.training.reporter import Reporter
from distributed_cls.training.sharding import RankLanes, ranges_of, rank_run, train_steps


class PortLost(RuntimeError):
    """The port that the rendezvous gave to this rank could not be bound: repeat the rendezvous with another one."""

    failure = FailureKind.PORT


def perform(assignment: RankAssignment, reporter: Reporter, latest: LatestState | None = None) -> RankResult:
    """Do the steps of a rank's task, together with the other ranks. ``latest``: states that an earlier attempt left.

    The result is the same on every rank. Raises UserError for what the user can fix.
    """
    task = assignment.task
    if task.first_phase is not None:
        task = dataclasses.replace(
            task, config=dataclasses.replace(task.config, train=task.config.train.second_phase())
        )
    configure_runtime(task.config, task.threads)
    reporter.phase(Phase.CLUSTER)
    strategy = _join_cluster(task.config)
    reporter.phase(Phase.DATASET)
    manifest = manifests.load(task.dataset)
    sources, images = _open_data(assignment, manifest, task.config, reporter)
    given = start_weights.read(task.start_weights) if task.start_weights and Step.TRAIN in task.steps else None

    def build_model() -> keras.Model:
        return build(task.config.model, manifest.image_size, len(manifest.classes), manifest.channels)

    def build_start() -> keras.Model:
        model = build_model()
        if task.first_phase is not None:
            assert isinstance(task.config.model, PretrainedSettings), "others have one phase"
            unfreeze_top(model, task.config.model.fine_tune_from)
            run_state.load(Path(task.run_folder, "checkpoints", checkpoint.BEST), model.variables)
        elif given is not None:
            given.assign_to(model)
        return model

    reporter.phase(Phase.MODEL)
    config = task.config.train
    total_steps = train_steps([epoch_records(manifest, config)], config.batch_size) * config.epochs
    ctx = RankContext(
        config=task.config,
        manifest=manifest,
        sources=sources,
        replicated=ReplicatedModel(strategy, build_start, config, total_steps, task.features is not None),
        reporter=reporter,
        rank=assignment.rank,
        world_size=assignment.world_size,
        threads=task.threads,
        run_folder=Path(task.run_folder),
        settings=checkpoint.settings_of(assignment.task.config),
        first_phase=task.first_phase,
        began_here=task.began_here,
        images=images,
        latest=latest,
    )
    result = _do_steps(ctx, task, build_model)
    reporter.phase(Phase.FINISH)
    return result


def _do_steps(ctx: RankContext, task: RankTask, build_model: Callable[[], keras.Model]) -> RankResult:
    if Step.MEASURE in task.steps:
        return RankResult(pace=pace.measure(ctx))
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
    counts: dict[str, EvaluationCounts] = {}
    confidence = task.confidence
    if Step.EVALUATE in task.steps:
        counts, confidence = evaluate(ctx, task.confidence, task.every_class)
    if Step.EXPORT in task.steps:
        _export(ctx, build_model, counts, confidence or Confidence())
    return RankResult(trained, counts, confidence)


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
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        interruption.restore()
        return strategy
    except tf.errors.UnknownError as error:
        if "gRPC server" in str(error):
            raise PortLost(str(error)) from error
        raise


def _open_data(
    assignment: RankAssignment, manifest: Manifest, config: Config, reporter: Reporter
) -> tuple[dict[str, Source], dict[str, Source]]:
    """This rank's part of each split, which may be features; then also the images of what it evaluates, to be shown."""
    task, place = assignment.task, (config, assignment.rank, assignment.world_size, reporter.progress)
    if task.features is None:
        return open_sources(manifest, task.dataset, *place), {}
    stored = features.load(task.features)
    of_features = open_sources(dataclasses.replace(manifest, shards=stored.shards), task.features, *place)
    shown = {split: manifest.shards[split] for split in ("val", "test") if Step.EVALUATE in task.steps}
    views = {"train": stored.origin.views}
    return (
        {
            split: dataclasses.replace(source, features=stored.length, views=views.get(split, 1))
            for split, source in of_features.items()
        },
        open_sources(dataclasses.replace(manifest, shards=shown), task.dataset, *place),
    )


def open_sources(
    manifest: Manifest,
    folder: str,
    config: Config,
    rank: int,
    world_size: int,
    progress: Callable[[int, int], None],
) -> dict[str, Source]:
    """This rank's part of each split.

    The shards that it reads are checked first, and copied to this machine when ``folder`` is a URL; ``progress`` is
    given the bytes that are done, and of all.
    """
    train, balanced = config.train, config.train.sampling == "balanced"
    records = {split: [shard.records for shard in shards] for split, shards in manifest.shards.items()}
    runs = {split: rank_run(counts, world_size, rank) for split, counts in records.items()}
    balanced = balanced and "train" in runs
    if "train" in runs:
        runs["train"] = RankLanes.of([epoch_records(manifest, train)], train, world_size, rank).run
    wanted = [
        shard
        for split, shards in manifest.shards.items()
        # Which records a balanced epoch takes depends on the labels of all.
        for shard in _read_by(shards, None if balanced and split == "train" else runs[split])
    ]
    here = _checked(folder, wanted, config.cluster, progress)
    files = {split: [str(Path(here, shard.file)) for shard in shards] for split, shards in manifest.shards.items()}
    order = None
    if balanced:
        order = balanced_order(stored_labels(files["train"]))[runs["train"].start : runs["train"].stop]
        runs["train"] = range(int(order[0]), int(order[-1]) + 1)
        order -= runs["train"].start
    return {
        split: Source(
            files[split],
            ranges_of(records[split], runs[split]),
            manifest.encoding,
            manifest.image_size,
            manifest.channels,
            order if split == "train" else None,
        )
        for split in manifest.shards
    }


def _read_by(shards: Sequence[Shard], run: range | None) -> list[Shard]:
    """The shards that hold the records of ``run``; None: all."""
    if run is None:
        return list(shards)
    return [shards[part.shard] for part in ranges_of([shard.records for shard in shards], run)]


def _checked(folder: str, shards: Sequence[Shard], cluster: ClusterConfig, progress: Callable[[int, int], None]) -> str:
    """Check ``shards`` against the manifest; the folder on this machine in which they are."""
    if storage.is_url(folder):
        return shard_cache.fetch(folder, shards, cluster, progress)
    done, total = 0, sum(shard.bytes for shard in shards)
    for shard in shards:
        manifests.check_shard(folder, shard)
        done += shard.bytes
        progress(done, total)
    return folder


def _export(
    ctx: RankContext, build: Callable[[], keras.Model], counts: dict[str, EvaluationCounts], confidence: Confidence
) -> None:
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
            metrics={split: _headline(counted.counts) for split, counted in counts.items()},
            config=to_dict(ctx.config),
            confidence=confidence,
        )
        folder = ctx.run_folder / "model"
        export_model(
            exported_model(model, ctx.config),
            folder,
            classes=manifest.classes,
            image_size=manifest.image_size,
            card=card,
            resize=manifest.resize,
            channels=manifest.channels,
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
