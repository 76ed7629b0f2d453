"""One training step: SGD with Nesterov momentum and the paper's regularisers (sections 4, 7 and 8)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from inception_cli.config import Plan
from inception_cli.network.model import InceptionV3

#: Steps between updates of the averaged weights: an update reads and writes all weights, and one step changes little.
EMA_INTERVAL = 4


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of the optimizer and the regularisers; sections are the paper's (arXiv:1512.00567)."""

    learning_rate: float = 0.04  # the highest
    warmup: float = 0.05  # share of the steps with a rising rate; then half a cosine, down to 0
    momentum: float = 0.9
    weight_decay: float = 5e-4  # of convolutions and classifiers, not of batch norms and biases
    label_smoothing: float = 0.1  # section 7
    aux_weight: float = 0.3  # GoogLeNet's (arXiv:1409.4842, section 5); the paper gives none
    clip_norm: float = 2.0  # of the gradient, section 8
    ema_window: float = 0.03  # time constant of the averaged weights, as a share of the steps, section 8
    dropout: float = 0.2


class Learner:
    """A network in training, its optimizer, and the moving average of its weights, which is what gets saved."""

    def __init__(self, network: InceptionV3, hyperparameters: Hyperparameters, steps: int, plan: Plan) -> None:
        self.hyperparameters, self.steps, self.plan = hyperparameters, steps, plan
        self.network = network.to(plan.device).to(memory_format=torch.channels_last)
        decay = 1 - min(1.0, EMA_INTERVAL / (hyperparameters.ema_window * steps))
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(self.network, multi_avg_fn=update)
        self._optimizer = torch.optim.SGD(
            parameter_groups(self.network, hyperparameters.weight_decay),
            momentum=hyperparameters.momentum,
            nesterov=True,
            fused=not plan.device.startswith("mps"),
        )
        self.steps_done = 0

    @property
    def averaged_network(self) -> InceptionV3:
        """The network with the averaged weights."""
        return cast(InceptionV3, self._averaged.module)

    def to_device(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the CPU on the device."""
        if not self.plan.device.startswith("cuda"):
            return tensor.to(self.plan.device)
        pinned = tensor.contiguous().pin_memory()  # the program does not wait for its copy, as the GPU is still busy
        return pinned.to(self.plan.device, non_blocking=True)

    def step(self, images: Tensor, targets: Tensor) -> Tensor:
        """Train on images (N, 3, S, S) and target probabilities (N, C); return the loss, a scalar on the device."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.network.train()
        with self._autocast():
            logits, aux_logits = self.network.forward_train(images)
        loss = self._loss(logits, targets) + self.hyperparameters.aux_weight * self._loss(aux_logits, targets)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.hyperparameters.clip_norm)
        self._optimizer.step()
        self.steps_done += 1
        if self.steps_done % EMA_INTERVAL == 0 or self.steps_done == self.steps:
            self._averaged.update_parameters(self.network)
        return loss.detach()

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Return the averaged network's fp32 logits (N, C) of images (N, 3, S, S)."""
        self._averaged.eval()
        with self._autocast():
            logits: Tensor = self._averaged(images)
        return logits.float()

    def measure_statistics(self, batches: Iterable[Tensor]) -> None:
        """Replace the batch-norm statistics of the averaged network by those of batches of images (N, 3, S, S).

        They are the means over the batches, each normalised by its own statistics as in training.
        """
        with self._autocast():
            update_bn(batches, self._averaged)

    def features(self, images: Tensor) -> Tensor:
        """Return the fp32 features (N, D) of images (N, 3, S, S): what the averaged network's last layer reads."""
        read: list[Tensor] = []
        with self.averaged_network.fc.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])):
            self.predict(images)
        return read[0].float()

    def learning_rate(self) -> float:
        """Return the learning rate of the next step."""
        return scheduled_rate(self.hyperparameters, self.steps_done, self.steps)

    def averaged_weights(self) -> dict[str, Tensor]:
        """Return a copy of the averaged weights by name, without the auxiliary classifier, which only training uses."""
        weights = _without_auxiliary(self.averaged_network.state_dict())
        return {name: value.clone() for name, value in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return all that `load_state_dict` needs to resume exactly; tensors are shared, not copied."""
        return {
            "steps_done": self.steps_done,
            "network": self.network.state_dict(),
            "averaged": _without_auxiliary(self._averaged.state_dict()),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.steps_done = state["steps_done"]
        self.network.load_state_dict(state["network"])
        # The auxiliary classifier's average is never used.
        self._averaged.load_state_dict(self._averaged.state_dict() | state["averaged"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _autocast(self) -> torch.autocast:
        kind = self.plan.device.partition(":")[0]
        return torch.autocast(kind, torch.bfloat16, enabled=self.plan.precision == "bf16")

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), targets, label_smoothing=self.hyperparameters.label_smoothing)


def scheduled_rate(hyperparameters: Hyperparameters, steps_done: int, steps: int) -> float:
    """Return the learning rate after `steps_done` of all `steps`: a linear rise, then half a cosine."""
    highest = hyperparameters.learning_rate
    warmup_steps = max(1.0, hyperparameters.warmup * steps)
    if steps_done >= steps:
        return 0.0
    if steps_done < warmup_steps:
        return highest * (steps_done + 1) / (warmup_steps + 1)
    return highest * (1 + cos(pi * (steps_done - warmup_steps) / (steps - warmup_steps))) / 2


def _without_auxiliary(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.removeprefix("module.").startswith("AuxLogits.")}


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimizer's groups: weights of convolutions and classifiers decay, one-dimensional ones do not.

    Batch norms and biases are the one-dimensional parameters.
    """
    parameters = [*network.parameters()]
    return [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
