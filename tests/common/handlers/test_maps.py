"""Which maps an evaluation writes, for which cases, and under which names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import PrepareBatchExtraInput, SupervisedEvaluator
from PIL import Image
from torch import Tensor, nn

from common.handlers import SaveGuidanceMaps
from common.handlers.maps import write_map

SIZE = (12, 16)


class Looking(nn.Module):
    """Looks at the brightest pixels, and remembers how it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.asked: list[tuple[bool, bool, torch.dtype, tuple[int, ...]]] = []

    def forward(self, image: Tensor, text: Tensor | None = None) -> Tensor:
        return image[:, :1]

    def text_attention(self, image: Tensor, text: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert text is not None
        assert not isinstance(image, MetaTensor)
        self.asked.append((self.training, torch.is_grad_enabled(), image.dtype, tuple(image.shape)))
        shown = self.weight * image[:, None, :1].expand(-1, 2, text.shape[2], -1, -1)
        return shown, text[:, 1].bool()


class Drawn(NamedTuple):
    attention: Tensor
    prior: Tensor
    guide: Tensor


class Pointing:
    """The attention's mean, a prior of one half where there is a sentence, and their product."""

    def __init__(self) -> None:
        self.sentences: list[str | None] = []

    def maps(
        self, attention: Tensor, text_mask: Tensor, sentences: Sequence[str | None], size: Sequence[int]
    ) -> Drawn:
        self.sentences += sentences
        assert text_mask.shape == (len(sentences), attention.shape[2])
        looks = attention.mean(dim=(1, 2))[:, None]
        assert tuple(looks.shape[2:]) == tuple(size)
        prior = torch.full_like(looks, 0.5 if sentences[0] else 1.0)
        return Drawn(looks, prior, looks * prior)


def cases(count: int = 4) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "id": f"case {k}",
            "image": MetaTensor(torch.rand(3, *SIZE, generator=generator)),
            "label": torch.zeros(1, *SIZE),
            "text": torch.ones(2, 5, dtype=torch.long),
            "sentence": "lower left lung" if k else "",
        }
        for k in range(count)
    ]


def evaluate(
    network: nn.Module, data: list[dict], handler: SaveGuidanceMaps, *, decollate: bool = True
) -> SupervisedEvaluator:
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=3),
        network=network,
        prepare_batch=PrepareBatchExtraInput(extra_keys={"text": "text"}),
        decollate=decollate,
        val_handlers=[handler],
    )
    engine.run()
    return engine


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "maps").glob("*"))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert (image.mode, image.format) == ("L", "PNG")
        return np.asarray(image)


@pytest.mark.parametrize("decollate", [True, False])
def test_the_first_cases_get_three_grey_maps_on_the_network_s_grid(tmp_path: Path, decollate: bool) -> None:
    network, guidance, data = Looking(), Pointing(), cases()
    handler = SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=guidance, limit=2)
    evaluate(network, data, handler, decollate=decollate)
    kinds = ("attention", "guide", "prior")
    assert names(tmp_path) == [f"case_{k}.{kind}.png" for k in (0, 1) for kind in kinds]
    assert guidance.sentences == ["", "lower left lung"]
    for k, prior in ((0, 1.0), (1, 0.5)):
        expected = {"attention": data[k]["image"][0].numpy(), "prior": np.full(SIZE, prior, np.float32)}
        expected["guide"] = expected["attention"] * expected["prior"]
        for kind, values in expected.items():
            shown = pixels(tmp_path / f"maps/case_{k}.{kind}.png") / 255
            np.testing.assert_allclose(shown, values, rtol=0, atol=0.5 / 255 + 1e-6)


def test_the_network_is_asked_as_in_evaluation_and_left_as_it_was(tmp_path: Path) -> None:
    network = Looking()
    evaluate(network, cases(1), SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=Pointing()))
    assert network.asked == [(False, False, torch.float32, (1, 3, *SIZE))]
    network.train()
    engine = Engine(lambda engine, batch: None)
    engine.state.device, engine.state.batch = torch.device("cpu"), cases(1)
    handler = SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=Pointing())
    handler.start(engine)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        handler.write(engine)
    assert network.asked[1] == (False, False, torch.float32, (1, 3, *SIZE))
    assert network.training


def test_a_wrapped_network_is_asked_bare(tmp_path: Path) -> None:
    network = Looking()
    handler = SaveGuidanceMaps(
        output_dir=tmp_path, network=nn.DataParallel(network), guidance=Pointing(), limit=1
    )
    evaluate(network, cases(2), handler)
    assert len(network.asked) == 1
    assert len(names(tmp_path)) == 3


def test_each_run_counts_anew_and_removes_the_maps_of_the_one_before(tmp_path: Path) -> None:
    network = Looking()
    first = SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=Pointing(), limit=3)
    evaluate(network, cases(), first).run()
    assert len(names(tmp_path)) == 9
    (tmp_path / "maps/notes.png").write_bytes(b"of somebody else")
    evaluate(
        network, cases(), SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=Pointing(), limit=0)
    )
    assert names(tmp_path) == ["notes.png"]


@pytest.mark.parametrize(("rank", "written"), [(0, 3), (1, 2)])
def test_the_ranks_share_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, written: int
) -> None:
    network = Looking()
    handler = SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=Pointing(), limit=5)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/old.prior.png").write_bytes(b"")
    engine = Engine(lambda engine, batch: None)
    engine.state.device = torch.device("cpu")
    waited = []
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: rank)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.barrier", lambda: waited.append(rank))
    handler.start(engine)
    assert names(tmp_path) == ([] if rank == 0 else ["old.prior.png"])
    for case in cases(4):
        engine.state.batch = [case]
        handler.write(engine)
    assert waited == [rank]
    assert len(network.asked) == written


def test_names_are_those_of_predictions(tmp_path: Path) -> None:
    data = cases(1)
    data[0]["id"] = "Köln/Fall 1"
    network = Looking()
    evaluate(network, data, SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=Pointing()))
    assert names(tmp_path)[0] == "Köln_Fall_1.attention.png"


def test_a_case_that_cannot_be_written_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = cases(4)
    data[0]["id"], data[2]["id"] = "a" * 300, "..."
    data[1]["image"] = data[1]["image"] * float("nan")
    network = Looking()
    with caplog.at_level(logging.WARNING, logger="common.handlers.maps"):
        evaluate(network, data, SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=Pointing()))
    assert [name for name in names(tmp_path) if "attention" in name] == ["case_3.attention.png"]
    assert [("aaa" in m, "NaN" in m, "'...'" in m) for m in caplog.messages] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


def test_volumes_have_no_maps(tmp_path: Path) -> None:
    network = Looking()
    handler = SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=Pointing())
    engine = Engine(lambda engine, batch: None)
    engine.state.device = torch.device("cpu")
    engine.state.batch = [cases(1)[0] | {"image": torch.rand(3, *SIZE, 4)}]
    handler.start(engine)
    handler.write(engine)
    assert names(tmp_path) == []


def test_a_network_that_cannot_say_where_it_looks_is_refused(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: None)
    network = nn.Conv2d(3, 1, 1)
    with pytest.raises(ValueError, match=r"must have a method text_attention.*got Conv2d, which has none"):
        SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=Pointing()).attach(engine)
    SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=Pointing(), limit=0).attach(engine)


def test_a_negative_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"limit must be 0 \(off\) or more, got -1"):
        SaveGuidanceMaps(output_dir=tmp_path, network=Looking(), guidance=Pointing(), limit=-1)


def test_maps_are_rounded_and_written_whole(tmp_path: Path) -> None:
    write_map(torch.tensor([[0.0, 0.499, 1.0], [-1.0, 0.5, 2.0]]), tmp_path / "maps/a.prior.png")
    assert pixels(tmp_path / "maps/a.prior.png").tolist() == [[0, 127, 255], [0, 128, 255]]
    with pytest.raises(ValueError, match=r"b.prior.png must hold finite values"):
        write_map(torch.full((2, 2), float("inf")), tmp_path / "maps/b.prior.png")
    assert names(tmp_path) == ["a.prior.png"]


def test_the_real_network_and_guidance(tmp_path: Path) -> None:
    from common.losses.directional_guidance import DirectionalGuidance
    from common.networks import MMIUNet

    torch.manual_seed(0)
    network = MMIUNet(width=0.125)
    data = cases(1)
    data[0] |= {"image": torch.rand(3, 64, 96), "text": torch.ones(2, 24, dtype=torch.long)}
    data[0] |= {"label": torch.zeros(1, 64, 96), "sentence": "Infected area in the lower left lung."}
    guidance = DirectionalGuidance(prior_frame="image")
    evaluate(network, data, SaveGuidanceMaps(output_dir=tmp_path, network=network, guidance=guidance))
    maps = {kind: pixels(tmp_path / f"maps/case_0.{kind}.png") for kind in ("attention", "prior", "guide")}
    assert {values.shape for values in maps.values()} == {(64, 96)}
    assert maps["attention"].max() == 255
    assert maps["attention"].min() > 200  # an untrained network looks everywhere, and is not shown to choose
    row, column = np.unravel_index(maps["prior"].argmax(), (64, 96))
    assert row > 64 * 2 / 3
    assert column < 48
    product = maps["attention"] / 255 * (maps["prior"] / 255)
    np.testing.assert_allclose(maps["guide"] / 255, product, rtol=0, atol=1.5 / 255)
