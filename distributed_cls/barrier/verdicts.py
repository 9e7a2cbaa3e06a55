"""What the reports of all ranks mean: one verdict for each check of ``job=doctor``, as pure functions."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from distributed_cls.barrier.rendezvous import NOT_INSTALLED
from distributed_cls.config import ClusterConfig
from distributed_cls.contracts.doctor_report import Grade, Verdict
from distributed_cls.contracts.node_report import NodeReport

# Below these a run of a small model may still work; it is said before it fails.
_LEAST_MEMORY_MIB = 1536  # per rank: TensorFlow, Spark's Python worker, a small model
_LEAST_DISK_MIB = 1024
_CLOCK_SECONDS = 5.0
_SLOW_LATENCY_MS = 20.0
_SLOW_MIB = 50.0


def judge(reports: Sequence[NodeReport], cluster: ClusterConfig) -> list[Verdict]:
    """All checks of the ranks' ``reports``, in the order in which a person would look."""
    return [check(reports, cluster) for check in _CHECKS]


def _machines(reports: Sequence[NodeReport], cluster: ClusterConfig) -> Verdict:
    where = Counter(f"{report.name} ({report.host})" for report in reports)
    found = ", ".join(f"{count} on {name}" for name, count in where.items())
    return Verdict("ranks", Grade.OK, f"{len(reports)}: {found}; {_range(r.cores for r in reports)} cores each")


def _versions(reports: Sequence[NodeReport], cluster: ClusterConfig) -> Verdict:
    differing, missing = [], []
    for package in reports[0].versions:
        found = Counter(report.versions.get(package, NOT_INSTALLED) for report in reports)
        if NOT_INSTALLED in found:
            missing.append(f"{package} (on {found[NOT_INSTALLED]} of {len(reports)} ranks)")
        elif len(found) > 1:
            differing.append(f"{package} " + " and ".join(f"{version} ({n})" for version, n in found.items()))
    if missing:
        return Verdict("versions", Grade.FAULT, f"not installed: {', '.join(missing)}", "Install it on every node.")
    if differing:
        remedy = "Install the same releases on every node, or ship one environment (cluster.python)."
        return Verdict("versions", Grade.FAULT, "; ".join(differing), remedy)
    return Verdict("versions", Grade.OK, ", ".join(f"{name} {found}" for name, found in reports[0].versions.items()))


def _gpus(reports: Sequence[NodeReport], cluster: ClusterConfig) -> Verdict:
    wanted = cluster.gpus_per_worker
    for report in reports:
        if report.gpus != wanted and (wanted or report.gpus):
            found = f"Spark gives {report.gpus} to {_named(report)}, wanted are {wanted}"
            return Verdict("GPUs", Grade.FAULT, found, "Set cluster.gpus_per_worker, or Spark's GPU resources.")
        if report.probe is not None and not report.probe.trouble and report.probe.gpus < wanted:
            found = f"TensorFlow sees {report.probe.gpus} of {wanted} on {_named(report)}"
            return Verdict("GPUs", Grade.FAULT, found, "Install the gpu extra and a driver that fits its CUDA.")
    return Verdict("GPUs", Grade.OK, f"{wanted} for each rank" if wanted else "none wanted")


def _network(reports: Sequence[NodeReport], cluster: ClusterConfig) -> Verdict:
    pairs = [(report, peer) for report in reports for peer in report.peers]
    for report, peer in pairs:
        if peer.trouble:
            found = f"{_named(report)} does not reach rank {peer.rank}: {peer.trouble}"
            return Verdict("network", Grade.FAULT, found, "Open all TCP ports between the executors.")
    if not pairs:
        return Verdict("network", Grade.OK, "one rank")
    slowest = max(peer.milliseconds or 0.0 for _, peer in pairs)
    return Verdict("network", Grade.OK, f"{len(pairs)} of {len(pairs)} ways open, round trip at most {slowest:g} ms")


def _proxies(reports: Sequence[NodeReport], cluster: ClusterConfig) -> Verdict:
    found = sorted({name for report in reports for name in report.proxies})
    said = f"{', '.join(found)} set; not used between ranks" if found else "none set"
    return Verdict("proxies", Grade.OK, said)


def _places(reports: Sequence[NodeReport], cluster: ClusterConfig) -> Verdict:
    for report in reports:
        for place in report.places:
            if place.trouble:
                found = f"{place.setting}={place.path} cannot be used by {_named(report)}: {place.trouble}"
                return Verdict("folders", Grade.FAULT, found, f"Set {place.setting} to a folder that all can write.")
            if not place.shared:
                found = f"{place.setting}={place.path} on {_named(report)} is another folder than the driver's"
                return Verdict("folders", Grade.FAULT, found, f"Set {place.setting} to storage that all nodes share.")
    found = ", ".join(f"{place.setting}={place.path}" for place in reports[0].places)
    return Verdict("folders", Grade.OK, f"read and written by every rank: {found}")


def _disks(reports: Sequence[NodeReport], cluster: ClusterConfig) -> Verdict:
    for report in reports:
        free = {place.setting: place.free_mib for place in report.places if place.free_mib is not None}
        for name, mib in [*free.items(), ("the temporary folder", report.scratch_mib)]:
            if mib < _LEAST_DISK_MIB:
                return Verdict("disk", Grade.WARNING, f"{mib:,} MiB free in {name} of {_named(report)}", "Make room.")
    return Verdict("disk", Grade.OK, f"{min(report.scratch_mib for report in reports):,} MiB free or more")


def _memory(reports: Sequence[NodeReport], cluster: ClusterConfig) -> Verdict:
    for host, sharing in Counter(report.host for report in reports).items():
        available = min(report.available_mib for report in reports if report.host == host)
        if available < sharing * _LEAST_MEMORY_MIB:
            found = f"{available:,} MiB available on {host} for {sharing} rank(s)"
            remedy = "Use fewer ranks per machine; on YARN and Kubernetes raise spark.executor.memoryOverhead."
            return Verdict("memory", Grade.WARNING, found, remedy)
    return Verdict("memory", Grade.OK, f"{min(report.available_mib for report in reports):,} MiB available or more")


def _clocks(reports: Sequence[NodeReport], cluster: ClusterConfig) -> Verdict:
    clocks = [report.clock for report in reports if report.clock is not None]
    skew = max(clocks) - min(clocks) if clocks else 0.0
    if skew > _CLOCK_SECONDS:
        return Verdict("clocks", Grade.WARNING, f"{skew:.1f} s apart", "Run a time service (NTP) on every node.")
    return Verdict("clocks", Grade.OK, f"{skew:.2f} s apart at most")


def _all_reduce(reports: Sequence[NodeReport], cluster: ClusterConfig) -> Verdict:
    probes = [(report, report.probe) for report in reports if report.probe is not None]
    for report, probe in probes:
        if probe.trouble:
            return Verdict("all-reduce", Grade.FAULT, f"{_named(report)}: {probe.trouble}", "Mend this first.")
    if not probes:
        return Verdict("all-reduce", Grade.UNKNOWN, "the ranks do not reach each other", "Mend the network first.")
    latency = max(probe.latency_ms or 0.0 for _, probe in probes)
    rate = min(probe.mib_per_second or 0.0 for _, probe in probes)
    found = f"one number in {latency:g} ms, 16 MiB at {rate:g} MiB/s"
    if len(reports) > 1 and (latency > _SLOW_LATENCY_MS or rate < _SLOW_MIB):
        remedy = "Steps wait for each other: raise train.batch_size, or use a faster network."
        return Verdict("all-reduce", Grade.WARNING, found, remedy)
    return Verdict("all-reduce", Grade.OK, found)


def _named(report: NodeReport) -> str:
    return f"rank {report.rank} ({report.name})"


def _range(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


_CHECKS: tuple[Callable[[Sequence[NodeReport], ClusterConfig], Verdict], ...] = (
    _machines,
    _versions,
    _gpus,
    _network,
    _proxies,
    _places,
    _disks,
    _memory,
    _clocks,
    _all_reduce,
)
