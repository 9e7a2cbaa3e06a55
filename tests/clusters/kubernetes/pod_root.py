"""What a pod's process sees: this machine's files as its image, its volumes, its own processes, name and address."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyspark

from distributed_cls.spark.java import java_home
from distributed_cls.spark.properties import LOCAL_JAVA
from tests.clusters.kubernetes.network_namespace import BRIDGE, GATEWAY, NetworkNamespace

_UNSHARE = "unshare --mount --pid --uts --fork --kill-child"
ROOT = Path(__file__).resolve().parents[3]
_ENTRYPOINT = ROOT / "deploy" / "entrypoint.sh"  # the image's own
_SPARK = Path(pyspark.__file__).parent

# What deploy/Dockerfile sets, with this machine's places; Java as the tests' other clusters have it.
IMAGE_ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
    "JAVA_HOME": java_home(),
    "SPARK_HOME": "/opt/spark",
    "HOME": "/root",
    "JAVA_TOOL_OPTIONS": LOCAL_JAVA,
}


@dataclass(frozen=True)
class Mount:
    source: Path
    target: str
    read_only: bool


@dataclass(frozen=True)
class Sandbox:
    """One pod's: ``folder`` takes what its processes write outside of its volumes."""

    folder: Path
    name: str
    number: int  # of its address
    hosts: Path
    hidden: Sequence[Path]  # folders of this machine that its image does not have
    control_group: Path | None
    network: NetworkNamespace

    def command(
        self, words: Sequence[str], environment: Mapping[str, str], at: str, mounts: Sequence[Mount]
    ) -> list[str]:
        """A command that runs ``words`` in ``at`` within the sandbox; the sandbox goes when it ends."""
        for part in ("root", "upper", "work"):
            (self.folder / part).mkdir(parents=True)
        assignments = [f"{name}={value}" for name, value in environment.items()]
        inner = "\n".join(
            [
                *("set -e", "mount --make-rprivate /", *self._image(), *self._mounts(mounts)),
                f"exec chroot . /usr/bin/env -i -C {shlex.quote(at)} {shlex.join([*assignments, *words])}",
            ]
        )
        (self.folder / "inner.sh").write_text(f"{inner}\n")
        outer = "\n".join(["set -e", *self._resources(), f'exec {_UNSHARE} sh "{self.folder}/inner.sh"'])
        (self.folder / "outer.sh").write_text(f"{outer}\n")
        # Whatever ends the tests ends the pods.
        return ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", str(self.folder / "outer.sh")]

    def _resources(self) -> list[str]:
        lines = [f"echo $$ > {self.control_group}/cgroup.procs"] if self.control_group else []
        outside, link = shlex.join(self.network.prefix), f"pod{self.number}"
        return [
            *lines,
            f"{outside} ip link add {link} type veth peer name eth0 netns $$",
            f"{outside} ip link set {link} master {BRIDGE} up",
            f"ip addr add {address(self.number)}/24 dev eth0",
            "ip link set lo up",
            "ip link set eth0 up",
            f"ip route add default via {GATEWAY}",
        ]

    def _image(self) -> list[str]:
        layers = f"lowerdir=/,upperdir={self.folder}/upper,workdir={self.folder}/work"
        return [
            f"mount -t overlay overlay -o {layers} {self.folder}/root",
            f"cd {self.folder}/root",
            "mount -t proc proc proc",
            "mount --rbind /dev dev",
            "mount --rbind /sys sys",
            "mkdir -p opt/spark/conf opt/spark/work-dir",
            f"ln -s {_SPARK}/* opt/spark/",
            f"install -m 755 {_ENTRYPOINT} opt/entrypoint.sh",
            f"mount --bind {self.hosts} etc/hosts",
            f"hostname {shlex.quote(self.name[:63])}",
            *(f"mount -t tmpfs tmpfs {_within(str(place))}" for place in self.hidden),
        ]

    @staticmethod
    def _mounts(mounts: Sequence[Mount]) -> list[str]:
        lines = []
        for mount in mounts:
            source, target = shlex.quote(str(mount.source)), _within(mount.target)
            if mount.source.is_dir():
                lines.append(f"mkdir -p {target}")
            else:
                lines.append(f"mkdir -p $(dirname {target}); touch {target}")
            lines.append(f"mount --bind {source} {target}")
            if mount.read_only:
                lines.append(f"mount -o remount,ro,bind {target}")
        return lines


def address(number: int) -> str:
    """The address of a pod on the bridge."""
    return f"{GATEWAY.rpartition('.')[0]}.{number}"


def _within(target: str) -> str:
    """A path below the pod's root: /var/run is an absolute link, which would lead out of it."""
    return shlex.quote(os.path.realpath(target).lstrip("/"))
