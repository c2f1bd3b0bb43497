"""Transport plans against POT and their defining properties; the loss against fixed plans and hand computation."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from torch.testing import assert_close

from common.losses import (
    cosine_cost,
    optimal_transport,
    semi_relaxed_plan,
    sinkhorn,
    sinkhorn_plan,
    transport_alignment_loss,
)

with warnings.catch_warnings():
    # what POT imports on its way
    warnings.simplefilter("ignore")
    import ot

CONVERGED = {"max_iterations": 20000, "tolerance": 1e-12, "check_every": 50}


def tokens(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Random tokens whose costs spread over most of [0, 2]."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def random_cost(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        dtype
    )


def prefix_mask(lengths: list[int], size: int) -> torch.Tensor:
    return torch.arange(size) < torch.tensor(lengths)[:, None]


def pot_plan(cost: torch.Tensor, entropy: float) -> torch.Tensor:
    rows = torch.full((cost.shape[0],), 1 / cost.shape[0], dtype=cost.dtype)
    columns = torch.full((cost.shape[1],), 1 / cost.shape[1], dtype=cost.dtype)
    return ot.sinkhorn(rows, columns, cost, entropy, method="sinkhorn_log", numItermax=100000, stopThr=1e-13)


def worst_marginals(plan: torch.Tensor) -> tuple[float, float]:
    """Sums of absolute errors of rows and of columns, of the worst item."""
    rows = (plan.sum(dim=2) - 1 / plan.shape[1]).abs().sum(dim=1).max()
    columns = (plan.sum(dim=1) - 1 / plan.shape[2]).abs().sum(dim=1).max()
    return float(rows), float(columns)


class TestPlan:
    @pytest.mark.parametrize("shape", [(4, 7, 5), (3, 5, 9), (2, 12, 12), (2, 1, 6), (2, 6, 1)])
    @pytest.mark.parametrize("entropy", [3e-2, 0.1, 1.0])
    def test_equals_pot(self, shape: tuple[int, int, int], entropy: float) -> None:
        cost = random_cost(*shape)
        plan = sinkhorn_plan(cost, entropy=entropy, **CONVERGED)
        expected = torch.stack([pot_plan(item, entropy) for item in cost])
        assert_close(plan, expected, rtol=1e-4, atol=1e-14)

    def test_equals_pot_in_float32(self) -> None:
        cost = cosine_cost(tokens(4, 20, 8), tokens(4, 9, 8, seed=1))
        plan = sinkhorn_plan(cost.float(), max_iterations=3000, tolerance=0)
        expected = torch.stack([pot_plan(item, 3e-2) for item in cost]).float()
        assert plan.dtype == torch.float32
        assert_close(plan, expected, rtol=1e-4, atol=1e-9)

    def test_padded_items_equal_pot_on_the_valid_part(self) -> None:
        cost = random_cost(4, 8, 6)
        row_lengths, column_lengths = [8, 3, 5, 1], [6, 6, 2, 4]
        rows, columns = prefix_mask(row_lengths, 8), prefix_mask(column_lengths, 6)
        cost[~(rows[:, :, None] & columns[:, None, :])] = torch.nan
        plan = sinkhorn_plan(cost, row_mask=rows, column_mask=columns, **CONVERGED)
        for item, values, n, m in zip(plan, cost, row_lengths, column_lengths, strict=True):
            assert_close(item[:n, :m], pot_plan(values[:n, :m], 3e-2), rtol=1e-4, atol=1e-14)
            assert item[n:].count_nonzero() == item[:, m:].count_nonzero() == 0

    @settings(max_examples=25, deadline=None)
    @given(
        n=st.integers(1, 9),
        m=st.integers(1, 9),
        seed=st.integers(0, 2**16),
        entropy=st.sampled_from([3e-2, 0.1, 1.0]),
    )
    def test_marginals(self, n: int, m: int, seed: int, entropy: float) -> None:
        plan = sinkhorn_plan(random_cost(2, n, m, seed=seed), entropy=entropy, **CONVERGED)
        assert plan.min() >= 0
        assert max(worst_marginals(plan)) < 1e-3

    @pytest.mark.parametrize("seed", range(4))
    def test_default_stop_leaves_rows_within_the_tolerance_and_columns_exact(self, seed: int) -> None:
        directions = tokens(6, 64, seed=9)
        image = tokens(8, 49, 6, seed=seed) @ directions + tokens(8, 49, 64, seed=seed + 10)
        text = tokens(8, 24, 6, seed=seed + 20) @ directions + tokens(8, 24, 64, seed=seed + 30)
        rows, columns = worst_marginals(sinkhorn_plan(cosine_cost(image, text)))
        assert rows < 1.1e-2
        assert columns < 1e-12

    @pytest.mark.parametrize("iterations", [1, 5, 30])
    def test_without_tolerance_runs_exactly_the_iterations(self, iterations: int) -> None:
        cost = random_cost(2, 6, 4)
        kernel = (-cost / 3e-2).exp()
        columns = torch.ones(2, 4, dtype=torch.float64)
        for _ in range(iterations):
            rows = 1 / 6 / torch.einsum("bij,bj->bi", kernel, columns)
            columns = 1 / 4 / torch.einsum("bij,bi->bj", kernel, rows)
        expected = rows[:, :, None] * kernel * columns[:, None, :]
        plan = sinkhorn_plan(cost, max_iterations=iterations, tolerance=0, check_every=4)
        assert_close(plan, expected, rtol=1e-9, atol=1e-15)

    def test_constant_cost_gives_the_uniform_plan_at_once(self) -> None:
        plan = sinkhorn_plan(torch.full((2, 5, 3), 2.0), max_iterations=1)
        assert_close(plan, torch.full((2, 5, 3), 1 / 15))

    def test_a_constant_added_to_the_cost_changes_nothing(self) -> None:
        cost = random_cost(3, 6, 5)
        assert_close(sinkhorn_plan(cost), sinkhorn_plan(cost + 100), rtol=1e-9, atol=1e-14)

    def test_order_of_rows_and_columns_does_not_matter(self) -> None:
        cost = random_cost(2, 6, 5)
        rows, columns = torch.randperm(6), torch.randperm(5)
        plan = sinkhorn_plan(cost)
        assert_close(sinkhorn_plan(cost[:, rows][:, :, columns]), plan[:, rows][:, :, columns])

    def test_transposed_problem_has_the_transposed_plan(self) -> None:
        cost = random_cost(3, 7, 4)
        forth, back = sinkhorn_plan(cost, **CONVERGED), sinkhorn_plan(cost.mT, **CONVERGED)
        assert_close(back.mT, forth, rtol=1e-6, atol=1e-12)

    def test_padded_equals_unpadded(self) -> None:
        cost = random_cost(2, 6, 4, dtype=torch.float32)
        padded = torch.full((2, 9, 7), torch.inf)
        padded[:, :6, :4] = cost
        plan = sinkhorn_plan(padded, row_mask=prefix_mask([6, 6], 9), column_mask=prefix_mask([4, 4], 7))
        assert_close(plan[:, :6, :4], sinkhorn_plan(cost), rtol=1e-5, atol=1e-9)
        assert plan.count_nonzero() == plan[:, :6, :4].count_nonzero()

    @pytest.mark.parametrize("entropy", [3e-2, 1e-3])
    def test_an_item_does_not_depend_on_its_batch(self, entropy: float) -> None:
        quick = torch.ones(1, 6, 4, dtype=torch.float64) + random_cost(1, 6, 4) / 50
        slow, wide = random_cost(1, 6, 4, seed=2), 30 * random_cost(1, 6, 4, seed=3)
        together = sinkhorn_plan(torch.cat([quick, slow, wide]), entropy=entropy)
        alone = torch.cat([sinkhorn_plan(item, entropy=entropy) for item in (quick, slow, wide)])
        assert_close(together, alone, rtol=1e-9, atol=1e-14)

    def test_a_converged_item_is_left_as_it_is(self) -> None:
        """Otherwise the quick item would have gone on with the slow one."""
        quick, slow = random_cost(1, 8, 6, seed=1) / 10, random_cost(1, 8, 6, seed=6)
        together = sinkhorn_plan(torch.cat([quick, slow]), check_every=2)
        further = sinkhorn_plan(quick, tolerance=0)
        assert (together[:1] - further).abs().max() > 1e-6
        assert_close(together[:1], sinkhorn_plan(quick, check_every=2))

    @pytest.mark.parametrize("mode", ["balanced", "semi_relaxed"])
    def test_items_without_a_valid_token_have_no_plan(self, mode: str) -> None:
        plan = sinkhorn_plan(
            random_cost(4, 5, 3),
            row_mask=prefix_mask([5, 0, 5, 0], 5),
            column_mask=prefix_mask([3, 3, 0, 0], 3),
            marginals=mode,
        )
        assert plan[1:].count_nonzero() == 0
        assert plan[0].sum().item() == pytest.approx(1)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("mode", ["balanced", "semi_relaxed"])
    @pytest.mark.parametrize("entropy", [3e-2, 1e-3, 1e-5, 1e3])
    def test_is_always_a_number(self, dtype: torch.dtype, mode: str, entropy: float) -> None:
        cost = torch.cat([random_cost(3, 9, 7, dtype=dtype), torch.full((1, 9, 7), 2.0, dtype=dtype)])
        cost[0, 0], cost[0, 1:], cost[1, :, 0], cost[1, :, 1:] = 2, 0, 2, 0
        plan = sinkhorn_plan(cost, entropy=entropy, marginals=mode)
        assert plan.isfinite().all()
        assert_close(plan.sum(dim=(1, 2)), torch.ones(4, dtype=dtype), rtol=1e-4, atol=0)

    def test_small_entropy_equals_pot_with_logarithms(self) -> None:
        cost = random_cost(3, 6, 5)
        cost[1] *= 1e-2
        plan = sinkhorn_plan(cost, entropy=1e-3, **CONVERGED)
        expected = torch.stack([pot_plan(item, 1e-3) for item in cost])
        assert_close(plan, expected, rtol=1e-4, atol=1e-12)

    @pytest.mark.parametrize("lengths", [[6, 6, 6], [6, 2, 4]])
    def test_logarithms_and_scaling_agree(self, monkeypatch, lengths: list[int]) -> None:
        cost, mask = random_cost(3, 7, 6), prefix_mask(lengths, 6)
        scaled = sinkhorn_plan(cost, column_mask=mask)
        monkeypatch.setattr(sinkhorn, "_WIDEST_KERNEL", 0.0)
        assert_close(sinkhorn_plan(cost, column_mask=mask), scaled, rtol=1e-9, atol=1e-15)

    def test_factors_out_of_range_are_noticed(self, monkeypatch) -> None:
        monkeypatch.setattr(sinkhorn, "_WIDEST_KERNEL", 1e9)
        cost = random_cost(3, 7, 6, dtype=torch.float32)
        plan = sinkhorn_plan(cost, entropy=1e-3)
        assert plan.isfinite().all()
        assert_close(plan.sum(dim=(1, 2)), torch.ones(3), rtol=1e-4, atol=0)

    def test_no_number_in_one_item_stays_there(self) -> None:
        cost = random_cost(2, 4, 3)
        cost[0, 1, 1] = torch.nan
        plan = sinkhorn_plan(cost)
        assert plan[0].isnan().any()
        assert_close(plan[1:], sinkhorn_plan(cost[1:]))

    def test_stays_in_float32_under_autocast_and_for_half_inputs(self) -> None:
        cost = random_cost(2, 49, 24, dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = sinkhorn_plan(cost)
        assert inside.dtype == torch.float32
        assert_close(inside, sinkhorn_plan(cost), rtol=0, atol=0)
        half = cost.bfloat16()
        assert_close(sinkhorn_plan(half), sinkhorn_plan(half.float()), rtol=0, atol=0)
        assert sinkhorn_plan(cost.double()).dtype == torch.float64

    def test_has_no_gradient_and_leaves_the_cost_alone(self) -> None:
        cost = random_cost(2, 4, 3).requires_grad_()
        before = cost.detach().clone()
        mask = prefix_mask([4, 2], 4)
        assert not sinkhorn_plan(cost).requires_grad
        assert not sinkhorn_plan(cost, row_mask=mask).requires_grad
        assert not semi_relaxed_plan(cost, row_mask=mask).requires_grad
        assert torch.equal(cost, before)

    def test_empty_batch(self) -> None:
        assert sinkhorn_plan(torch.zeros(0, 4, 3)).shape == (0, 4, 3)


class TestSemiRelaxedPlan:
    def test_equals_a_naive_loop(self) -> None:
        cost, rows, columns = random_cost(2, 4, 5), prefix_mask([4, 2], 4), prefix_mask([3, 5], 5)
        plan = semi_relaxed_plan(cost, row_mask=rows, column_mask=columns)
        for item, values, n, m in zip(plan, cost, (4, 2), (3, 5), strict=True):
            expected = torch.zeros(4, 5, dtype=torch.float64)
            for i in range(n):
                weights = [(-values[i, j] / 3e-2).exp() for j in range(m)]
                for j in range(m):
                    expected[i, j] = weights[j] / sum(weights) / n
            assert_close(item, expected)

    def test_is_the_mode_of_the_same_name(self) -> None:
        cost = random_cost(2, 4, 5)
        assert torch.equal(sinkhorn_plan(cost, marginals="semi_relaxed"), semi_relaxed_plan(cost))

    def test_directions_differ(self) -> None:
        cost = random_cost(1, 4, 5)
        assert (semi_relaxed_plan(cost) - semi_relaxed_plan(cost.mT).mT).abs().max() > 1e-2


class TestCosineCost:
    def test_closed_forms(self) -> None:
        image = torch.tensor([[[3.0, 0.0], [0.0, 0.5], [-2.0, 0.0]]])
        text = torch.tensor([[[7.0, 0.0], [1.0, 1.0], [0.0, 0.0]]])
        half = 0.5**0.5
        expected = torch.tensor([[[0, 1 - half, 1], [1, 1 - half, 1], [2, 1 + half, 1]]])
        assert_close(cosine_cost(image, text), expected)

    def test_gradients(self) -> None:
        inputs = tokens(2, 3, 4).requires_grad_(), tokens(2, 5, 4, seed=1).requires_grad_()
        assert torch.autograd.gradcheck(cosine_cost, inputs)


class TestLoss:
    @pytest.mark.parametrize("mode", ["balanced", "semi_relaxed"])
    def test_is_the_cost_of_both_plans(self, mode: str) -> None:
        image, text = tokens(3, 6, 4), tokens(3, 5, 4, seed=1)
        cost = cosine_cost(image, text)
        forth, back = (sinkhorn_plan(one, marginals=mode, **CONVERGED) for one in (cost, cost.mT))
        expected = ((forth * cost).sum() + (back * cost.mT).sum()) / 2 / 3
        loss = transport_alignment_loss(image, text, mode=mode, max_iterations=20000, tolerance=1e-10)
        assert_close(loss, expected, rtol=1e-8, atol=0)

    @pytest.mark.parametrize("mode", ["balanced", "semi_relaxed"])
    def test_limits(self, mode: str) -> None:
        image = torch.eye(4)[None]
        assert transport_alignment_loss(image, image, mode=mode).item() == pytest.approx(0, abs=1e-6)
        ones = torch.ones(2, 3, 4)
        assert transport_alignment_loss(ones, -ones[:, :2], mode=mode).item() == pytest.approx(2)

    @pytest.mark.parametrize("mode", ["balanced", "semi_relaxed"])
    def test_gradient_is_that_of_the_cost_under_a_fixed_plan(self, mode: str) -> None:
        """d cos(x, y) / dx = (y / |y| - cos x / |x|) / |x|, weighted by the plan."""
        image, text = tokens(2, 6, 4).requires_grad_(), tokens(2, 5, 4, seed=1)
        transport_alignment_loss(image, text, mode=mode).backward()
        with torch.no_grad():
            cost = cosine_cost(image, text)
            plan = sinkhorn_plan(cost, marginals=mode)
            if mode == "semi_relaxed":
                plan = (plan + semi_relaxed_plan(cost.mT).mT) / 2
            norm, other = image.norm(dim=2), text / text.norm(dim=2, keepdim=True)
            along = (plan * (1 - cost)).sum(dim=2) / norm
            expected = -(plan @ other - along[:, :, None] * image) / norm[:, :, None]
        assert_close(image.grad, expected / 2)

    @pytest.mark.parametrize("mode", ["balanced", "semi_relaxed"])
    def test_gradients_with_the_plan_frozen(self, monkeypatch, mode: str) -> None:
        image, text = tokens(2, 4, 3), tokens(2, 3, 3, seed=1)
        mask = prefix_mask([3, 2], 3)
        cost = cosine_cost(image, text)
        forth = semi_relaxed_plan(cost, column_mask=mask)
        back = semi_relaxed_plan(cost.mT, row_mask=mask)
        frozen = {tuple(forth.shape): forth, tuple(back.shape): back}
        monkeypatch.setattr(
            optimal_transport, "semi_relaxed_plan", lambda cost, **_: frozen[tuple(cost.shape)]
        )
        monkeypatch.setattr(optimal_transport, "sinkhorn_plan", lambda cost, **_: forth)
        assert torch.autograd.gradcheck(
            lambda x, y: transport_alignment_loss(x, y, text_mask=mask, mode=mode),
            (image.requires_grad_(), text.requires_grad_()),
        )

    @pytest.mark.parametrize("mode", ["balanced", "semi_relaxed"])
    def test_averages_the_items_with_valid_tokens_and_reads_no_padding(self, mode: str) -> None:
        image, text = tokens(4, 6, 4), tokens(4, 5, 4, seed=1)
        image_mask, text_mask = prefix_mask([6, 4, 0, 6], 6), prefix_mask([5, 2, 5, 0], 5)
        alone = [
            transport_alignment_loss(image[:1], text[:1], mode=mode),
            transport_alignment_loss(image[1:2, :4], text[1:2, :2], mode=mode),
        ]
        image[~image_mask], text[~text_mask] = torch.nan, torch.inf
        image.requires_grad_(), text.requires_grad_()
        loss = transport_alignment_loss(image, text, image_mask=image_mask, text_mask=text_mask, mode=mode)
        assert_close(loss, sum(alone) / 2)
        loss.backward()
        for side, mask in ((image, image_mask), (text, text_mask)):
            assert side.grad.isfinite().all()
            assert side.grad[~mask].count_nonzero() == 0

    def test_without_any_valid_token_costs_nothing(self) -> None:
        image, text = tokens(2, 3, 4).requires_grad_(), tokens(2, 5, 4, seed=1)
        loss = transport_alignment_loss(image, text, text_mask=torch.zeros(2, 5, dtype=torch.bool))
        loss.backward()
        assert loss.item() == 0
        assert image.grad.count_nonzero() == 0

    def test_order_of_items_and_sides_do_not_matter(self) -> None:
        image, text = tokens(3, 6, 4), tokens(3, 5, 4, seed=1)
        loss = transport_alignment_loss(image, text, mode="semi_relaxed")
        order = torch.tensor([2, 0, 1])
        assert_close(transport_alignment_loss(image[order], text[order], mode="semi_relaxed"), loss)
        assert_close(transport_alignment_loss(text, image, mode="semi_relaxed"), loss)

    @pytest.mark.parametrize("mode", ["balanced", "semi_relaxed"])
    @pytest.mark.parametrize("entropy", [3e-2, 1e-3])
    def test_stays_in_float32_under_autocast(self, mode: str, entropy: float) -> None:
        image, text = (tokens(2, n, 16, seed=n, dtype=torch.float32) for n in (9, 7))
        settings = {"mode": mode, "entropy": entropy}
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = transport_alignment_loss(image.requires_grad_(), text, **settings)
        inside.backward()
        assert inside.dtype == torch.float32
        assert_close(inside, transport_alignment_loss(image, text, **settings), rtol=0, atol=0)
        assert image.grad.isfinite().all()
        half = transport_alignment_loss(image.bfloat16(), text.bfloat16(), **settings)
        assert half.dtype == torch.float32
        assert half.isfinite()

    def test_metadata_is_dropped(self) -> None:
        image, text = tokens(2, 4, 3), tokens(2, 5, 3, seed=1)
        loss = transport_alignment_loss(MetaTensor(image), text)
        assert type(loss) is torch.Tensor
        assert_close(loss, transport_alignment_loss(image, text))


COST, BOOL = torch.zeros(2, 4, 3), torch.ones(2, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("cost", "options", "message"),
    [
        (COST[0], {}, r"cost must have shape \(B, N, M\) .*, got \(4, 3\)"),
        (COST[:, :0], {}, r"N and M at least 1, got \(2, 0, 3\)"),
        (COST, {"row_mask": BOOL[:, :3]}, r"row_mask must be bool \(2, 4\), got torch.bool \(2, 3\)"),
        (COST, {"column_mask": BOOL[:, :3].long()}, r"column_mask must be bool \(2, 3\), got torch.int64"),
        (COST, {"entropy": 0}, "entropy must be positive and finite, got 0"),
        (COST, {"entropy": float("nan")}, "entropy must be positive and finite, got nan"),
        (COST, {"max_iterations": 0}, "max_iterations must be at least 1, got 0"),
        (COST, {"check_every": 0}, "check_every must be at least 1, got 0"),
        (COST, {"tolerance": -1}, "tolerance must not be negative, got -1"),
        (COST, {"marginals": "relaxed"}, "must be one of balanced, semi_relaxed, got 'relaxed'"),
    ],
)
def test_wrong_settings_of_the_plan(cost: torch.Tensor, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sinkhorn_plan(cost, **options)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (torch.zeros(2, 5, 3), {}, r"same B and C, got \(2, 4, 8\) and \(2, 5, 3\)"),
        (torch.zeros(3, 5, 8), {}, r"same B and C, got \(2, 4, 8\) and \(3, 5, 8\)"),
        (torch.zeros(5, 8), {}, r"got \(2, 4, 8\) and \(5, 8\)"),
        (torch.zeros(2, 5, 8), {"text_mask": BOOL}, r"mask of tokens \(2, 5, 8\) must be bool \(2, 5\)"),
        (torch.zeros(2, 5, 8), {"image_mask": BOOL.float()}, r"must be bool \(2, 4\), got torch.float32"),
        (torch.zeros(2, 5, 8), {"mode": "both"}, "must be one of balanced, semi_relaxed, got 'both'"),
        (torch.zeros(2, 5, 8), {"mode": "semi_relaxed", "entropy": -1}, "entropy must be positive"),
    ],
)
def test_wrong_settings_of_the_loss(text: torch.Tensor, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transport_alignment_loss(torch.zeros(2, 4, 8), text, **options)
