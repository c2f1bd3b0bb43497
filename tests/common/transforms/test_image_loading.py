"""Tests of the loader: formats, orientations, meta data and bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from common.transforms import DisplayOrder, load_image, spatial_size
from common.transforms.display import anatomical_order


def standardized(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return (values - values.mean()) / values.std()


def test_every_format_shows_the_same_picture(
    phantom_file: Path, format_name: str, phantom: np.ndarray
) -> None:
    image = load_image(phantom_file)
    assert image.dtype == torch.float32
    assert image.shape[1:] == phantom.shape
    for channel in image.as_tensor():
        difference = np.abs(standardized(channel.numpy()) - standardized(phantom))
        # JPEG of quality 98: at most 12 gray values of 255, which are 0.2 standard deviations; others are exact.
        assert difference.max() < (0.2 if format_name == "jpg" else 1e-4)


def test_meta_data_bring_pixels_back_to_the_file(
    phantom_file: Path, format_name: str, read_stored: Callable[[Path], np.ndarray]
) -> None:
    image = load_image(phantom_file)
    meta = image.meta
    order = DisplayOrder.from_meta(meta)
    back = order.to_stored(image.as_tensor()[:1])[0].numpy()
    shape = tuple(side for side in meta["file_shape"] if side > 0)
    stored = read_stored(phantom_file)
    assert stored.shape == shape
    assert np.abs(standardized(back.reshape(shape)) - standardized(stored)).max() < 1e-4
    assert torch.equal(order.to_display(order.to_stored(image.as_tensor())), image.as_tensor())
    assert spatial_size(image) == [64, 96]
    assert meta["filename_or_obj"] == str(phantom_file)


def test_affine_maps_displayed_pixels_to_their_millimetres(phantom_file: Path) -> None:
    image = load_image(phantom_file)
    meta = image.meta
    order = DisplayOrder.from_meta(meta)
    if meta["file_format"] != "nifti":
        return
    shape = [int(side) for side in meta["file_shape"] if side > 0] + [1]
    kept = [axis for axis in range(3) if shape[:3][axis] > 1]
    markers = torch.arange(64 * 96).reshape(1, 64, 96)
    stored = order.to_stored(markers)[0]
    for row, column in ((0, 0), (5, 80), (63, 1)):
        where = (stored == row * 96 + column).nonzero()[0].tolist()
        index = np.zeros(4)
        index[3] = 1
        index[kept] = where
        expected = meta["file_affine"] @ index
        found = image.affine.numpy() @ np.array([row, column, 0, 1])
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_volumes_are_shown_axially(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "v.nii.gz")
    shown = load_image(tmp_path / "v.nii.gz")
    assert shown.shape == (1, 5, 4, 6)
    np.testing.assert_array_equal(shown[0].numpy(), volume[::-1, ::-1].transpose(1, 0, 2))
    reoriented = nibabel.as_closest_canonical(nibabel.load(tmp_path / "v.nii.gz"))
    flipped = reoriented.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nibabel.save(flipped, tmp_path / "other.nii.gz")
    np.testing.assert_array_equal(load_image(tmp_path / "other.nii.gz").numpy(), shown.numpy())


@pytest.mark.parametrize(
    ("columns", "kept", "expected"),
    [
        pytest.param([(1, 0, 0), (0, 1, 0), (0, 0, 1)], (0, 1), ((1, 0), (True, True)), id="ras_axial"),
        pytest.param([(-1, 0, 0), (0, -1, 0), (0, 0, 1)], (0, 1), ((1, 0), (False, False)), id="lps_axial"),
        pytest.param([(1, 0, 0), (0, 1, 0), (0, 0, 1)], (0, 2), ((1, 0), (True, True)), id="ras_coronal"),
        pytest.param([(1, 0, 0), (0, 1, 0), (0, 0, 1)], (1, 2), ((1, 0), (True, True)), id="ras_sagittal"),
        pytest.param(
            [(0, 0, -1), (-1, 0, 0), (0, 1, 0)], (0, 1), ((0, 1), (False, False)), id="as_displayed"
        ),
    ],
)
def test_anatomical_order(
    columns: list[tuple[int, ...]], kept: tuple[int, ...], expected: tuple[tuple[int, ...], tuple[bool, ...]]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns).T
    order = anatomical_order(affine, kept)
    assert order is not None
    assert (order.axes, order.flips) == expected


def test_anatomical_order_of_a_degenerate_affine_is_unknown() -> None:
    assert anatomical_order(np.diag([0.0, 0.0, 1.0, 1.0]), (0, 1)) is None
    assert anatomical_order(np.full((4, 4), np.nan), (0, 1)) is None


def test_colour_nifti_and_trailing_axes(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, size=(6, 8, 1, 1, 3), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(colours, np.diag([-1, -1, 1, 1])), tmp_path / "c.nii.gz")
    np.testing.assert_array_equal(
        load_image(tmp_path / "c.nii.gz").numpy(), colours[:, :, 0, 0].transpose(2, 1, 0)
    )
    record = np.zeros((6, 8, 1), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    record["R"], record["B"] = colours[..., 0, 0], colours[..., 0, 2]
    nibabel.save(nibabel.Nifti1Image(record, np.diag([-1, -1, 1, 1])), tmp_path / "r.nii.gz")
    shown = load_image(tmp_path / "r.nii.gz").numpy()
    np.testing.assert_array_equal(shown[0], colours[:, :, 0, 0, 0].T)
    assert not shown[1].any()


def test_transparency_is_laid_over_black(tmp_path: Path) -> None:
    pixels = np.zeros((4, 5, 4), dtype=np.uint8)
    pixels[..., :3] = 200
    pixels[:2, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shown = load_image(tmp_path / "a.png").numpy()
    assert shown.shape == (3, 4, 5)
    assert (shown[:, :2] == 200).all()
    assert not shown[:, 2:].any()
    Image.fromarray(pixels[..., [0, 3]], mode=None).save(tmp_path / "la.png")
    np.testing.assert_array_equal(load_image(tmp_path / "la.png").numpy()[0], shown[0])


def test_exif_rotation_is_applied(phantom: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # show it turned clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(phantom))).save(tmp_path / "e.jpg", exif=exif, quality=98)
    assert np.abs(load_image(tmp_path / "e.jpg").numpy()[0] - phantom).max() < 15


def test_one_bit_picture(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255], [255, 0], [0, 0]], dtype=np.uint8)).convert("1").save(
        tmp_path / "b.png"
    )
    assert load_image(tmp_path / "b.png").numpy().tolist() == [[[0, 255], [255, 0], [0, 0]]]


def test_spacing_and_its_kind(tmp_path: Path, phantom: np.ndarray, dicom_writer: Callable[..., Path]) -> None:
    detector = load_image(
        dicom_writer(tmp_path / "d.dcm", phantom.T, orientation=["F", "L"], ImagerPixelSpacing=[0.2, 0.1])
    )
    assert detector.meta["spacing_kind"] == "detector"
    np.testing.assert_allclose(detector.meta["spacing"][:2], [0.1, 0.2])  # rows and columns as displayed
    unknown = load_image(dicom_writer(tmp_path / "u.dcm", phantom, PixelSpacing=[0, 0]))
    assert unknown.meta["spacing_kind"] == "unknown"
    assert np.isnan(unknown.meta["spacing"]).all()


def _truncated(source: Path) -> None:
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * 0.6)])


@pytest.mark.parametrize(
    "name", ["png", "jpg", "tiff", "nifti_ras_axial", "nifti_permuted_coronal", "dicom", "dicom_jpeg2000"]
)
def test_truncated_files_are_named(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    writers = request.getfixturevalue("writers")
    path = writers[name](tmp_path, np.random.default_rng(0).integers(0, 255, (64, 96), dtype=np.uint8))
    _truncated(path)
    with pytest.raises(ValueError, match=f"{path.name} must"):
        load_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".nii", ".nii.gz", ".dcm"])
@pytest.mark.parametrize("content", [b"", b"this is a text file and no image at all"])
def test_broken_files_are_named(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"broken{suffix} must be"):
        load_image(path)


def test_missing_folder_and_unknown_kinds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.png must be an image file, but it does not exist"):
        load_image(tmp_path / "no.png")
    with pytest.raises(ValueError, match="must hold one series of images, got no DICOM files"):
        load_image(tmp_path)
    (tmp_path / "a.csv").write_text("a,b")
    with pytest.raises(ValueError, match=r"a\.csv must be an image of a known kind \(\.png"):
        load_image(tmp_path / "a.csv")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(bad: float, tmp_path: Path) -> None:
    values = np.ones((4, 5, 1), dtype=np.float32)
    values[1, 1] = bad
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "n.nii.gz")
    with pytest.raises(ValueError, match=r"n\.nii\.gz must hold finite values"):
        load_image(tmp_path / "n.nii.gz")
    Image.fromarray(values[..., 0]).save(tmp_path / "n.tif")
    with pytest.raises(ValueError, match=r"n\.tif must hold finite values"):
        load_image(tmp_path / "n.tif")


def test_too_small_and_too_many(tmp_path: Path) -> None:
    Image.new("L", (1, 1)).save(tmp_path / "one.png")
    nibabel.save(nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)), tmp_path / "one.nii")
    for name in ("one.png", "one.nii"):
        with pytest.raises(ValueError, match=f"{name} must be at least 2 x 2 pixels"):
            load_image(tmp_path / name)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 7), np.uint8), np.eye(4)), tmp_path / "time.nii")
    with pytest.raises(
        ValueError, match=r"time\.nii must be an image of 2 or 3 dimensions, got shape \(4, 5, 6, 7\)"
    ):
        load_image(tmp_path / "time.nii")
    pages = [Image.new("L", (8, 8)), Image.new("L", (8, 8))]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match=r"pages\.tif must hold one picture, got 2"):
        load_image(tmp_path / "pages.tif")


@pytest.mark.parametrize(
    ("image", "label", "names"),
    [
        ("example_ct_sm", "example_seg", "RAS"),
        ("example_mr_sm", "example_seg_mr", "LPS"),
    ],
)
def test_real_volumes_are_radiological(image: str, label: str, names: str, real_data: Path) -> None:
    folder = real_data / "volumes" / "abdomen"
    shown, organs = load_image(folder / f"{image}.nii.gz"), load_image(folder / f"{label}.nii.gz")
    assert "".join(nibabel.aff2axcodes(shown.meta["file_affine"])) == names
    assert "".join(nibabel.aff2axcodes(shown.affine.numpy())) == "PLS"
    assert shown.shape == organs.shape
    centre = {organ: (organs[0] == organ).nonzero().float().mean(dim=0) for organ in (1, 2, 3, 5)}
    width = shown.shape[2]
    assert centre[5][1] < width / 2 < centre[1][1]  # liver at the left of the display, spleen at the right
    assert centre[2][1] < centre[3][1]  # right kidney left of the left kidney
    assert centre[2][0] > centre[5][0]  # kidneys lie further back than the liver
    assert centre[5][2] > centre[2][2]  # and lower


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("chest_cr_monochrome1_j2k.dcm", (1, 1955, 1841), "unknown"),
        ("dx_image.dcm", (1, 169, 211), "detector"),
        ("ct_image.dcm", (1, 128, 128), "patient"),
    ],
)
def test_real_dicom_files(name: str, shape: tuple[int, ...], kind: str, real_data: Path) -> None:
    image = load_image(real_data / "dicom" / name)
    assert image.shape == shape
    assert image.meta["spacing_kind"] == kind
    assert image.std() > 0


def test_real_chest_radiograph_is_bright_on_dark(real_data: Path) -> None:
    image = load_image(real_data / "dicom" / "chest_cr_monochrome1_j2k.dcm")[0].as_tensor()
    assert image.min() >= 0
    assert image.max() <= 255
    rows, columns = image.shape
    middle = image[rows // 4 : rows * 3 // 4, columns * 2 // 5 : columns * 3 // 5].mean()
    lungs = torch.cat([image[rows // 4 : rows // 2, columns // 5 : columns * 2 // 5].flatten()])
    assert middle > lungs.mean()  # the mediastinum is brighter than a lung


def test_real_ct_slice_equals_the_volume(real_data: Path) -> None:
    files = sorted((real_data / "dicom" / "ct_series").iterdir())
    image = load_image(files[0])
    assert image.shape == (1, 512, 512)
    assert "".join(nibabel.aff2axcodes(image.affine.numpy()))[:2] == "PL"
