"""pass@k from more samples than k. Knows no programs."""

from math import comb

from contracts.errors import InvalidRequest


def pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """The chance that one of `k` samples passes, without bias, where `num_passed` of all did.

    Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1.
    Raises InvalidRequest unless 1 <= k <= num_samples and 0 <= num_passed <= num_samples.
    """
    if not 1 <= k <= num_samples or not 0 <= num_passed <= num_samples:
        raise InvalidRequest(f"pass@{k} of {num_passed} passes in {num_samples} samples")
    return 1 - comb(num_samples - num_passed, k) / comb(num_samples, k)
