"""SpuCo's methods (Joshi et al., 2023) through its public classes, with the library's defaults."""

from __future__ import annotations

from collections.abc import Callable

import torch
from peer_task import Groups, Task, Tensors
from torch import nn

from online_debias.runtime.torchvision_compat import import_torchvision

import_torchvision()  # SpuCo imports it too, which fails beside a CPU build of torch

from spuco.datasets import GroupLabeledDatasetWrapper  # noqa: E402
from spuco.end2end import LFF  # noqa: E402
from spuco.group_inference import JTTInference, SpareInference  # noqa: E402
from spuco.robust_train import ERM, CustomSampleERM, GroupDRO, SpareTrain  # noqa: E402
from spuco.utils import Trainer, set_seed  # noqa: E402

FIRST_EPOCHS = 1  # of the network that finds groups; README.md says which scripts have it
UPSAMPLE = 100  # repetitions of JTT's error set, in the library's scripts


def erm(task: Task) -> nn.Module:
    """Train plainly."""
    set_seed(task.seed)
    network = task.network()
    ERM(network, task.tensors(), task.batch_size, task.optimizer(network), task.epochs).train()
    return network


def lff(task: Task) -> nn.Module:
    """Learn from failure: a biased network beside the other says what is hard for it."""
    set_seed(task.seed)
    biased, network = task.network("biased"), task.network()
    LFF(
        trainset=task.tensors(),
        bias_model=biased,
        debias_model=network,
        batch_size=task.batch_size,
        bias_optimizer=task.optimizer(biased, beside=True),
        debias_optimizer=task.optimizer(network),
        num_epochs=task.epochs,
    ).train()
    return network


def jtt(task: Task) -> nn.Module:
    """Train twice: what a short first training gets wrong is repeated in the second."""
    set_seed(task.seed)
    tensors = task.tensors()
    predictions = _first_logits(task, tensors).argmax(1).tolist()
    groups: Groups = JTTInference(predictions, tensors.labels).infer_groups()
    rows = groups[0, 0] + groups[0, 1] * UPSAMPLE
    network = task.network()
    optimizer = task.optimizer(network, rows=len(rows))
    CustomSampleERM(network, tensors, task.batch_size, optimizer, task.epochs, rows).train()
    return network


def spare(task: Task) -> nn.Module:
    """Cluster what a network says early in training, class by class, and balance the clusters."""
    set_seed(task.seed)
    tensors = task.tensors()
    inference = SpareInference(
        logits=_first_logits(task, tensors).softmax(1),
        class_labels=tensors.labels,
        max_clusters=max(2, tensors.num_classes),  # the silhouette chooses how many
    )
    groups = tensors.group_partition = inference.infer_groups()
    # The powers are in the order in which classes appear in the data, and are read by class.
    powers = dict(zip(inference.class_partition, inference.sampling_powers, strict=True))
    network = task.network()
    SpareTrain(
        network,
        tensors,
        groups,
        [powers[label] for label in range(tensors.num_classes)],
        task.batch_size,
        task.optimizer(network),
        task.epochs,
    ).train()
    return network


def group_dro(task: Task) -> nn.Module:
    """Weight the true groups, drawn evenly, by how they fare."""
    set_seed(task.seed)
    network, groups = task.network(), task.true_groups()
    if len(groups) > task.batch_size:
        raise ValueError(
            f"The data has {len(groups)} groups, more than the {task.batch_size} rows of a batch "
            "that SpuCo's GroupDRO draws them in; leave GroupDRO out."
        )
    grouped = GroupLabeledDatasetWrapper(task.tensors(), groups)
    GroupDRO(network, grouped, task.batch_size, task.optimizer(network), task.epochs).train()
    return network


def _first_logits(task: Task, tensors: Tensors) -> torch.Tensor:
    """Return the logits of all rows, of a network trained for a short time."""
    network = task.network("first")
    optimizer = task.optimizer(network, epochs=FIRST_EPOCHS)
    trainer = Trainer(tensors, network, task.batch_size, optimizer)
    trainer.train(FIRST_EPOCHS)
    logits: torch.Tensor = trainer.get_trainset_outputs()
    return logits


METHODS: dict[str, Callable[[Task], nn.Module]] = {
    "SpuCo ERM": erm,
    "SpuCo LfF": lff,
    "SpuCo JTT": jtt,
    "SpuCo SPARE": spare,
    "SpuCo GroupDRO": group_dro,
}
