"""The search loss (Eq. 9) term by term: what the mask leaves out is neither summed nor counted."""

import pytest
import torch
import torch.nn.functional as F

from scfs.model.losses import search_loss

N, G, B, D = 3, 2, 4, 5
TAU, TEACHER_TAU = 0.1, 0.04


def terms(student: torch.Tensor, searched: torch.Tensor) -> torch.Tensor:
    """Cross entropy of each crop, view and image, (N, G, B)."""
    found = torch.empty(N, G, B, dtype=torch.float64)
    for n in range(N):
        for g in range(G):
            for b in range(B):
                target = F.softmax(searched[n, g, b] / TEACHER_TAU, 0)
                found[n, g, b] = -(target * F.log_softmax(student[n, b] / TAU, 0)).sum()
    return found


@pytest.mark.parametrize("counted", [None, "some", "none"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_each_term_that_counts_once(counted: str | None, reduction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    student, searched = (
        torch.randn(*shape, D, generator=generator, dtype=torch.float64) for shape in ((N, B), (N, G, B))
    )
    masks = {None: None, "some": torch.rand(N, G, B, generator=generator) < 0.5, "none": torch.zeros(N, G, B).bool()}
    mask = masks[counted]
    kept = terms(student, searched)[torch.ones(N, G, B).bool() if mask is None else mask]
    assert counted != "some" or 0 < len(kept) < N * G * B
    expected = kept.sum() / (B if reduction == "sum" else max(len(kept), 1))
    found = search_loss(student, searched, TAU, TEACHER_TAU, reduction, mask)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    if reduction == "mean":
        of_all = search_loss(student, searched, TAU, TEACHER_TAU, reduction, mask, torch.tensor(7))
        torch.testing.assert_close(of_all, kept.sum() / 7, rtol=1e-12, atol=1e-12)
