"""Peer: TorchDistributor with DistributedDataParallel over gloo, two barrier tasks on ``local[2]``."""

from typing import TYPE_CHECKING

from benchmarks import measure
from benchmarks.peer_task import EpochTimer, PeerResult, PeerTask

if TYPE_CHECKING:
    import torch


def train(task: PeerTask) -> PeerResult:
    """Train in a barrier stage; rank 0's result."""
    with measure.spark(slots=2):
        from pyspark.ml.torch.distributor import TorchDistributor

        result = TorchDistributor(num_processes=2, local_mode=False, use_gpu=False).run(train_rank, task)
    assert isinstance(result, PeerResult)
    return result


def cnn(size: int, classes: int) -> "torch.nn.Module":
    """The network of ``keras_cnn``: float32 [N, 3, size, size], -1 to 1 → logits [N, classes]."""
    from torch import nn

    layers: list[nn.Module] = []
    channels = 3
    for filters in (32, 64, 128):
        layers += [
            nn.Conv2d(channels, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters, momentum=0.1, eps=1e-3),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        channels, size = filters, size // 2
    layers += [nn.Flatten(), nn.Linear(channels * size * size, 128), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(128, classes))


def train_rank(task: PeerTask) -> PeerResult:
    """One rank, inside the process that TorchDistributor starts for its barrier task, with one thread."""
    import torch
    import torch.distributed as dist
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    images, labels = (torch.from_numpy(array) for array in task.arrays(rank, world_size))
    images = images.permute(0, 3, 1, 2)  # stays channels-last in memory
    model = cnn(images.shape[-1], task.classes).to(memory_format=torch.channels_last)
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(parallel.parameters(), task.learning_rate, eps=1e-7)
    batch, timer = task.replica_batch(world_size), EpochTimer()
    for _ in range(task.epochs):
        timer.start()
        order = torch.randperm(len(images))
        loss_sum, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for step in range(task.steps):
            chosen = order[step * batch : (step + 1) * batch]
            targets = labels[chosen]
            optimizer.zero_grad()
            logits = parallel(images[chosen].float() / 127.5 - 1)
            loss = cross_entropy(logits, targets)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach()
            correct += (logits.argmax(-1) == targets).sum()
        timer.stop()
    dist.destroy_process_group()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return PeerResult.of_epochs(task, timer.seconds, float(loss_sum) / task.steps, parameters)
