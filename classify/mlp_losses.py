"""What the network head minimises: three losses of multi-label logits, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

__all__ = ["Loss", "asymmetric", "binary_cross_entropy", "focal", "make_loss"]

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes the logits and the weights of "present" and of "absent", and gives the mean over all entries."""

_SMALLEST_BASE = 1e-8  # of a power, whose slope at 0 can be infinite


def make_loss(
    loss: str, *, gamma: float = 2.0, gamma_negative: float = 4.0, gamma_positive: float = 1.0, clip: float = 0.05
) -> Loss:
    """Choose a loss by its name.

    Every loss is a function of the logits and of two weights for each entry: how much the entry says that the class
    is present, and how much it says that it is absent. The weight of an entry, its mask, smoothed labels and mixed
    labels are all in these two.

    Parameters
    ----------
    loss : "bce", "focal" or "asymmetric"
    gamma : float
        Of `focal`.
    gamma_negative, gamma_positive, clip : float
        Of `asymmetric`.

    Returns
    -------
    callable
        ``(logits, present, absent) -> Tensor`` of shape (); the logits of shape (..., n, columns), the weights of
        shape (n, columns).
    """
    if loss == "focal":
        return partial(focal, gamma=gamma)
    if loss == "asymmetric":
        return partial(asymmetric, gamma_negative=gamma_negative, gamma_positive=gamma_positive, clip=clip)
    return binary_cross_entropy


def binary_cross_entropy(logits: torch.Tensor, present: torch.Tensor, absent: torch.Tensor) -> torch.Tensor:
    """Give the mean binary cross-entropy: the surprise at each entry.

    Parameters
    ----------
    logits : Tensor of shape (..., n, columns)
    present, absent : Tensor of shape (n, columns)
        Weights; see `make_loss`.

    Returns
    -------
    Tensor of shape ()
    """
    # -log(1 - p) is the softplus of the logit, and -log p is smaller than it by the logit.
    return ((present + absent) * torch.nn.functional.softplus(logits) - present * logits).mean()


def focal(logits: torch.Tensor, present: torch.Tensor, absent: torch.Tensor, gamma: float) -> torch.Tensor:
    """Give the mean focal loss: cross-entropy times (1 - p)^gamma, where p is the probability of the truth.

    What is already told with certainty counts less. T.-Y. Lin et al., "Focal Loss for Dense Object Detection",
    ICCV 2017. Their alpha is in the weights.

    Parameters
    ----------
    logits : Tensor of shape (..., n, columns)
    present, absent : Tensor of shape (n, columns)
        Weights; see `make_loss`.
    gamma : float
        At least 0, which is the binary cross-entropy.

    Returns
    -------
    Tensor of shape ()
    """
    return asymmetric(logits, present, absent, gamma_negative=gamma, gamma_positive=gamma, clip=0.0)


def asymmetric(
    logits: torch.Tensor,
    present: torch.Tensor,
    absent: torch.Tensor,
    gamma_negative: float,
    gamma_positive: float,
    clip: float,
) -> torch.Tensor:
    """Give the mean asymmetric loss: focal, with a gamma for each side, and blind to negatives that are sure enough.

    For negatives the probability is first lowered by `clip`, to no less than 0. E. Ben-Baruch et al., "Asymmetric
    Loss for Multi-Label Classification", ICCV 2021.

    Parameters
    ----------
    logits : Tensor of shape (..., n, columns)
    present, absent : Tensor of shape (n, columns)
        Weights; see `make_loss`.
    gamma_negative, gamma_positive : float
        At least 0.
    clip : float
        At least 0 and below 1. All three 0 is the binary cross-entropy.

    Returns
    -------
    Tensor of shape ()
    """
    of_absent = torch.nn.functional.softplus(logits)
    of_present = of_absent - logits
    if gamma_positive:
        of_present = of_present * torch.exp(-gamma_positive * of_absent)
    if clip:
        # Below 1, or the logarithm is infinite.
        probability = (torch.sigmoid(logits) - clip).clamp(0.0, 1 - torch.finfo(logits.dtype).eps)
        of_absent = -torch.log1p(-probability)
        if gamma_negative:
            of_absent = of_absent * probability.clamp(min=_SMALLEST_BASE) ** gamma_negative
    elif gamma_negative:
        of_absent = of_absent * torch.exp(-gamma_negative * (of_absent - logits))
    return (present * of_present + absent * of_absent).mean()
