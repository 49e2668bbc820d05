"""Train `brain-tumor-segmentation`.

    python -m serving.training.segmentation --data DIR --out FOLDER [--minutes M]

Region-based as nnU-Net does for BraTS: three sigmoid outputs WT, TC, ET; cross-entropy plus soft Dice at
three depths; the exponential moving average of the weights is what gets written. A time budget, not a step
count, drives the learning rate, so the same command suits a laptop and a GPU: the samples are seeded, how
many there are is the machine's. Afterwards the held-out cases are measured and the package is written.
"""

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from serving.predictors.networks import ResidualUNet3d
from serving.training.common import default_data
from serving.training.evaluate_segmentation import evaluate
from serving.training.segmentation_augment import Ranges, draw_sample
from serving.training.segmentation_data import HELD_OUT, Case, find_cases, load_case
from serving.training.segmentation_package import WEIGHTS, write_manifest, write_package

VERSION = "1.1.0"
ARCHITECTURE: dict[str, Any] = {
    "name": "residual-unet-3d",
    "arguments": {"channels_in": 4, "channels_out": 3, "widths": [16, 32, 64, 96, 128], "dropout": 0.1},
}
PATCH = (80, 96, 80)
DEPTH_WEIGHTS = (1.0, 0.5, 0.25)
CHECKPOINT_SECONDS = 300


@dataclass(frozen=True)
class Schedule:
    """Budget and optimiser settings of one run."""

    minutes: float
    seed: int
    workers: int
    peak_rate: float = 2e-3
    warm_up: float = 0.03
    weight_decay: float = 1e-3
    average: float = 0.995


class Samples(IterableDataset[tuple[Tensor, Tensor]]):
    """An endless stream of augmented patches, seeded per worker."""

    def __init__(self, cases: list[Case], seed: int) -> None:
        self.cases, self.seed = cases, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            yield draw_sample(self.cases, rng, PATCH, Ranges())


def region_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Dice over the batch, the mean over the regions. Both (N, 3, X, Y, Z)."""
    probability = torch.sigmoid(logits)
    axes = (0, 2, 3, 4)
    overlap = (probability * target).sum(axes)
    total = probability.sum(axes) + target.sum(axes)
    # 50 voxels of smoothing: a region that is absent costs little Dice and is left to the cross-entropy.
    dice = 1 - (2 * overlap + 50) / (total + 50)
    return functional.binary_cross_entropy_with_logits(logits, target) * 3 + dice.mean()


def deep_loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Weighted loss at full, half and quarter size; the target is averaged down, so it is soft there."""
    total = torch.zeros((), device=target.device)
    for depth, (logits, weight) in enumerate(zip(outputs, DEPTH_WEIGHTS, strict=True)):
        scaled = functional.avg_pool3d(target, 2**depth) if depth else target
        total = total + weight * region_loss(logits.float(), scaled)
    return total / sum(DEPTH_WEIGHTS)


def learning_rate(schedule: Schedule, progress: float) -> float:
    """Linear warm-up, then a half cosine to zero; `progress` runs from 0 to 1."""
    if progress < schedule.warm_up:
        return schedule.peak_rate * max(progress, 0.002) / schedule.warm_up
    return schedule.peak_rate * 0.5 * (1 + float(np.cos(np.pi * min(1.0, progress))))


def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights a little towards the model's."""
    with torch.no_grad():
        for kept, new in zip(average.parameters(), model.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)


def train(cases: list[Case], schedule: Schedule, checkpoint: Path) -> None:
    """Run the budget down; write the averaged weights to `checkpoint` every five minutes and at the end."""
    torch.manual_seed(schedule.seed)
    run = Run(schedule)
    loader = DataLoader(Samples(cases, schedule.seed), batch_size=1, num_workers=schedule.workers)
    started = saved = time.monotonic()
    recent: list[float] = []
    for step, (images, target) in enumerate(loader):
        now = time.monotonic()
        progress = (now - started) / (schedule.minutes * 60)
        if progress >= 1:
            break
        recent.append(run.step(images, target, progress))
        if step % 20 == 19:
            print(f"{now - started:6.0f} s  step {step + 1:5d}  loss {np.mean(recent):.4f}", flush=True)
            recent.clear()
        if now - saved > CHECKPOINT_SECONDS:
            write_weights(run.average, checkpoint)
            saved = now
    write_weights(run.average, checkpoint)


class Run:
    """The network, its moving average and the optimiser, one step at a time."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.steps = 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = ResidualUNet3d(**ARCHITECTURE["arguments"]).to(self.device)
        self.average = copy.deepcopy(self.model)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=schedule.peak_rate, weight_decay=schedule.weight_decay
        )

    def step(self, images: Tensor, target: Tensor, progress: float) -> float:
        """Learn from one batch and return its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.schedule, progress)
        with torch.autocast(self.device.type, torch.bfloat16):
            outputs = self.model.forward_all(images.to(self.device))
        loss = deep_loss(outputs, target.to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimiser.step()
        self.steps += 1
        update_average(self.average, self.model, min(self.schedule.average, self.steps / (self.steps + 9)))
        return float(loss.detach())


def write_weights(model: nn.Module, path: Path) -> None:
    """Half-precision safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().half().contiguous() for name, value in model.state_dict().items()}
    save_file(state, path)
    path.chmod(0o644)  # safetensors writes for the owner alone; a model server may run as another user


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--out", type=Path, required=True, help="package folder to write")
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw samples")
    parser.add_argument("--cache", type=Path, help="keep prepared cases here between runs")
    parser.add_argument(
        "--measure", action="store_true", help="train nothing: measure the weights in --out again"
    )
    options = parser.parse_args()
    folders = [folder for folder in find_cases(options.data) if folder.name not in HELD_OUT]
    names = [folder.name for folder in folders]
    if not options.measure:
        print("training on", ", ".join(names), flush=True)
        cases = [load_case(folder, options.cache) for folder in folders]
        schedule = Schedule(options.minutes, options.seed, options.workers)
        train(cases, schedule, options.out / WEIGHTS)
    write_manifest(options.out, VERSION, ARCHITECTURE, names, [])
    write_package(options.out, VERSION, ARCHITECTURE, names, evaluate(options.data, options.out))


if __name__ == "__main__":
    main()
