"""Train a slice model: `python -m serving.training.slices --task detection|classification --data DIR --out FOLDER`.

Trains in PyTorch (seeded; about 10 minutes on one CPU core, bfloat16 where the processor has it, a GPU when there is
one), ports the exponential moving average of the weights to Keras, checks that both networks agree, and writes the
package: `model.keras`, card and `model.yaml` with the figures measured. Only the last epoch is used: nothing is chosen
on validation or test slices.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from serving.predictors.slices import Preprocessing, normalise, prepare
from serving.training.common import default_data
from serving.training.slices_backbone import SliceNet, keras_model, port
from serving.training.slices_data import brain2d
from serving.training.slices_package import SIZE, WEIGHTS, write_package
from serving.training.slices_pools import Pool, Task, class_names, example, pools

AGREEMENT = 1e-3  # largest difference of a probability between the PyTorch and the Keras network


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result besides the data."""

    epochs: int = 13
    batch: int = 32
    size: int = SIZE
    early_size: int = 160  # cheaper pixels while the network still learns the coarse things
    early_epochs: int = 9
    seed: int = 20
    frozen_blocks: int = 5
    backbone_rate: float = 4e-4
    head_rate: float = 1.5e-3
    weight_decay: float = 0.03
    mixing: float = 0.0  # parameter of the beta distribution that mixes pairs of examples; 0: no mixing
    label_smoothing: float = 0.05
    ema: float = 0.99


RECIPES: dict[Task, Recipe] = {
    "detection": Recipe(mixing=0.3),
    "classification": Recipe(epochs=16, early_epochs=10),
}


def train(task: Task, data_dir: Path, recipe: Recipe) -> SliceNet:
    """A trained network (the moving average of its weights), on the CPU, in evaluation mode."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sources = pools(task, data_dir)
    net = SliceNet(len(class_names(task))).to(device)
    net.freeze_first(recipe.frozen_blocks)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
    steps = sum(pool.draws for pool in sources) // recipe.batch
    optimiser, schedule = _optimiser(net, recipe, recipe.epochs * steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    for epoch in range(recipe.epochs):
        started, losses = time.monotonic(), []
        net.train()
        net.freeze_first(recipe.frozen_blocks)
        size = recipe.early_size if epoch < recipe.early_epochs else recipe.size
        for images, labels in _batches(sources, task, recipe.batch, size, rng):
            share = float(rng.beta(recipe.mixing, recipe.mixing)) if recipe.mixing else 1.0
            mixed = share * images + (1 - share) * images.flip(0)
            with torch.autocast(device.type, torch.bfloat16):
                logits = net(mixed.to(device)).float()
            first, second = (loss_of(logits, wanted.to(device)) for wanted in (labels, labels.flip(0)))
            loss = share * first + (1 - share) * second
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            average.update_parameters(net)
            losses.append(loss.item())
        print(
            f"{task} epoch {epoch + 1}: loss {np.mean(losses):.3f}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        if (epoch + 1) % 4 == 0:
            print(
                f"  validation accuracy {_validation(average.module, task, data_dir, recipe):.3f}", flush=True
            )
    trained = average.module
    assert isinstance(trained, SliceNet)
    return trained.eval().cpu()


def to_keras(net: SliceNet, task: Task, size: int) -> Any:
    """The trained network as a Keras model. Raises RuntimeError if the two do not agree on random slices."""
    model = keras_model(size, len(class_names(task)), name=f"brain_tumor_{task}")
    port(net, model)
    images = np.random.default_rng(0).uniform(-1, 1, (4, size, size, 3)).astype(np.float32)
    difference = float(np.abs(_probabilities(net, images) - model.predict(images, verbose=0)).max())
    if difference > AGREEMENT:
        raise RuntimeError(f"the Keras port differs from the trained network by {difference:.2g}")
    return model


def _optimiser(
    net: SliceNet, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW under a one-cycle schedule; the new head learns faster than the pretrained blocks."""
    backbone = [value for value in net.blocks.parameters() if value.requires_grad]
    groups = [{"params": backbone}, {"params": list(net.head.parameters())}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.backbone_rate, weight_decay=recipe.weight_decay)
    rates = [recipe.backbone_rate, recipe.head_rate]
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rates, total_steps=steps + 1, pct_start=0.15
    )


def _batches(
    sources: list[Pool], task: Task, count: int, size: int, rng: Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of (count, 3, size, size) images in -1…1 and (count,) class numbers."""
    draws = [draw for pool in sources for draw in pool.epoch(rng)]
    order = rng.permutation(len(draws))
    for start in range(0, len(draws) - count + 1, count):
        drawn = [draws[int(index)] for index in order[start : start + count]]
        batch = [example(pool, member, task, size, rng) for pool, member in drawn]
        images = np.stack([normalise(image, "minus_one_one") for image, _ in batch])
        yield _tensor(images), torch.tensor([label for _, label in batch])


def _tensor(images: NDArray[np.float32]) -> Tensor:
    """(B, S, S, 3) array → (B, 3, S, S) tensor, left channels-last in memory: half the time per step on a CPU."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _probabilities(net: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    net.eval()
    device = next(net.parameters()).device
    with torch.inference_mode():
        parts = [torch.softmax(net(part.to(device)), dim=1) for part in torch.split(_tensor(images), 32)]
    return torch.cat(parts).cpu().numpy()


def _validation(net: nn.Module, task: Task, data_dir: Path, recipe: Recipe) -> float:
    """Accuracy on the validation patients of brain2d: shown while training, used for nothing."""
    pieces = brain2d(data_dir, "val")
    how = Preprocessing(size=recipe.size)
    images = np.concatenate([prepare(piece.image[None], how) for piece in pieces])
    found = _probabilities(net, images).argmax(axis=1)
    names = class_names(task)
    wanted = [int(piece.tumour) if task == "detection" else names.index(piece.label) for piece in pieces]
    return float((found == np.array(wanted)).mean())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=get_args(Task), required=True)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.task]
    model = to_keras(train(arguments.task, arguments.data, recipe), arguments.task, recipe.size)
    arguments.out.mkdir(parents=True, exist_ok=True)
    model.save(arguments.out / WEIGHTS)
    for row in write_package(arguments.task, arguments.out, arguments.data):
        print(f"{row.split}: {row.metric} {row.value:.3f} (n {row.n})", flush=True)


if __name__ == "__main__":
    main()
