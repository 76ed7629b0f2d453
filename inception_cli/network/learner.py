"""How the network learns: SGD with Nesterov momentum, and the regularisers of the paper (sections 4, 7 and 8)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from inception_cli.network.model import InceptionV3
from inception_cli.network.optimize import Plan

#: Steps from one addition to the average to the next: each reads and writes all weights, and steps are much alike.
AVERAGED_STEPS = 4


@dataclass(frozen=True)
class Learning:
    """The numbers of the optimiser; sections are the paper's (arXiv:1512.00567)."""

    learning_rate: float = 0.04  # its peak
    warmup: float = 0.05  # share of the steps with a rising rate; then half a cosine, down to 0
    momentum: float = 0.9
    weight_decay: float = 5e-4  # of convolutions and classifiers, not of batch norms and biases
    label_smoothing: float = 0.1  # section 7
    aux_weight: float = 0.3  # GoogLeNet's (arXiv:1409.4842, section 5); the paper gives none
    clip: float = 2.0  # norm of the gradient, section 8
    average: float = 0.03  # the kept weights look back over this share of the steps, section 8
    dropout: float = 0.2


class Learner:
    """A network that learns, and the average of its weights over time, which is what is kept."""

    def __init__(self, network: InceptionV3, learning: Learning, steps: int, plan: Plan) -> None:
        self.learning, self.steps, self.plan = learning, steps, plan
        self.network = network.to(plan.device).to(memory_format=torch.channels_last)
        # With buffers: the average has batch-norm statistics of its own.
        decay = 1 - min(1.0, AVERAGED_STEPS / (learning.average * steps))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        self._optimizer = torch.optim.SGD(
            parameter_groups(self.network, learning.weight_decay),
            momentum=learning.momentum,
            nesterov=True,
            fused=not plan.device.startswith("mps"),
        )
        self.done = 0

    @property
    def average(self) -> InceptionV3:
        """The network of averaged weights."""
        return cast(InceptionV3, self._averaged.module)

    def step(self, images: Tensor, targets: Tensor) -> Tensor:
        """Learn from images (N, 3, S, S) and targets (N, C), probabilities; the loss, a scalar on the device."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.network.train()
        with self.autocast():
            logits, aux_logits = self.network.forward_train(images)
        loss = self._loss(logits, targets) + self.learning.aux_weight * self._loss(aux_logits, targets)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.learning.clip)
        self._optimizer.step()
        self.done += 1
        if self.done % AVERAGED_STEPS == 0 or self.done == self.steps:
            self._averaged.update_parameters(self.network)
        return loss.detach()

    @torch.inference_mode()
    def judge(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) → logits (N, C) of the average, fp32."""
        self._averaged.eval()
        with self.autocast():
            logits: Tensor = self._averaged(images)
        return logits.float()

    def learning_rate(self) -> float:
        """The rate of the coming step: a linear rise, then half a cosine."""
        peak = self.learning.learning_rate
        rise = max(1.0, self.learning.warmup * self.steps)
        if self.done < rise:
            return peak * (self.done + 1) / (rise + 1)
        return peak * (1 + cos(pi * (self.done - rise) / (self.steps - rise))) / 2

    def autocast(self) -> torch.autocast:
        kind = self.plan.device.partition(":")[0]
        return torch.autocast(kind, torch.bfloat16, enabled=self.plan.precision == "bf16")

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on as if there had been no pause; tensors are shared, not copied."""
        return {
            "done": self.done,
            "network": self.network.state_dict(),
            "average": self._averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.done = state["done"]
        self.network.load_state_dict(state["network"])
        self._averaged.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), targets, label_smoothing=self.learning.label_smoothing)


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights of convolutions and classifiers, which decay; batch norms and biases, all of one axis, which do not."""
    parameters = [*network.parameters()]
    return [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
