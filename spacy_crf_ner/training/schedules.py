"""Schedules beside Thinc's own: series of factors, or of rates, over the steps of a training."""

from math import cos, pi
from typing import Iterator


def warmup_cosine(initial_rate: float, warmup_steps: int, total_steps: int) -> Iterator[float]:
    """Yield a rate that rises linearly from 0 and then falls along half a cosine; 0 ever after.

    The arguments, and the values of the warm-up, are those of Thinc's `warmup_linear.v1`. The curve is that of
    Loshchilov & Hutter 2017 (SGDR, equation 5), without restarts.

    initial_rate (float): The rate at the end of the warm-up.
    warmup_steps (int): How many steps the rise takes.
    total_steps (int): The step at which 0 is reached, the warm-up included.
    YIELDS (float): The rate of each step.
    """
    step = 0
    while True:
        if step < warmup_steps:
            factor = step / warmup_steps
        else:
            left = max(0, total_steps - step) / max(1, total_steps - warmup_steps)
            factor = 0.5 * (1.0 - cos(pi * left))
        yield factor * initial_rate
        step += 1
