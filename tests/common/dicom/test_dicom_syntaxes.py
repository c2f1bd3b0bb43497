"""Tests of transfer syntaxes: the same pixels in every one, and what is said of those that cannot be read."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from common.dicom import decoding, read_dicom_pixels
from common.dicom.decoding import decoders

NEAR = 3  # grey values by which near-lossless JPEG-LS is asked to differ at most
LOSSY = 6.0  # grey values of 255 on average, of smooth pictures
needs_gdcm = pytest.mark.skipif(
    find_spec("gdcm") is None, reason="no python-gdcm: install the extra 'jpeg-lossless'"
)


@pytest.fixture
def grey() -> np.ndarray:
    """`(32, 40)` uint8 without any symmetry, smooth as pictures are."""
    row, column = np.mgrid[:32, :40]
    return (127 + 60 * np.sin(row / 7) + 60 * np.cos(column / 5 + row / 20)).astype(np.uint8)


@pytest.fixture
def source(radiograph: Dataset, grey: np.ndarray, saved: Callable[..., Path], tmp_path: Path) -> Path:
    """The picture, not compressed."""
    return saved(radiograph, grey, tmp_path / "source.dcm")


def in_syntax(source: Path, syntax: UID, **options: object) -> Path:
    """Write the file in another transfer syntax with the encoders of pydicom."""
    dataset = pydicom.dcmread(source)
    if syntax.is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False, **options)
    dataset.file_meta.TransferSyntaxUID = syntax
    path = source.with_name("encoded.dcm")
    if syntax == ExplicitVRBigEndian and dataset.BitsAllocated == 16:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    pydicom.dcmwrite(
        path,
        dataset,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=True,
    )
    return path


def by_gdcm(source: Path, kind: str) -> Path:
    """Write the file in another transfer syntax with the encoders of GDCM."""
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(source))
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kind)))
    path = source.with_name("gdcm.dcm")
    done = reader.Read()
    change.SetInput(reader.GetImage())
    done = done and change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not (done and writer.Write()):
        pytest.skip(f"GDCM does not encode {kind}")
    return path


def by_pillow(source: Path, syntax: UID) -> Path:
    """Write the file as JPEG of 8 bits."""
    dataset, encoded = pydicom.dcmread(source), io.BytesIO()
    Image.fromarray(dataset.pixel_array).save(encoded, "JPEG", quality=95)
    dataset.PixelData = encapsulate([encoded.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    path = source.with_name("jpeg.dcm")
    dataset.save_as(path)
    return path


def syntax_of(path: Path) -> UID:
    return pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID


class TestSamePixels:
    @pytest.mark.parametrize(
        "syntax",
        [
            ImplicitVRLittleEndian,
            ExplicitVRLittleEndian,
            ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian,
            RLELossless,
            JPEG2000Lossless,
            JPEGLSLossless,
        ],
        ids=lambda syntax: syntax.keyword,
    )
    @pytest.mark.parametrize("kind", ["uint8", "int16"])
    def test_lossless(
        self,
        syntax: UID,
        kind: str,
        radiograph: Dataset,
        grey: np.ndarray,
        saved: Callable[..., Path],
        tmp_path: Path,
    ) -> None:
        stored = grey if kind == "uint8" else (grey.astype(np.int16) - 100) * 20
        path = in_syntax(saved(radiograph, stored, tmp_path / "source.dcm"), syntax)
        assert syntax_of(path) == syntax
        np.testing.assert_array_equal(read_dicom_pixels(path).pixels[0], stored)

    @needs_gdcm
    @pytest.mark.parametrize(
        ("kind", "syntax"),
        [
            ("JPEGLosslessProcess14_1", JPEGLosslessSV1),
            ("JPEGLosslessProcess14", JPEGLossless),
            ("JPEGLSLossless", JPEGLSLossless),
            ("JPEG2000Lossless", JPEG2000Lossless),
            ("RLELossless", RLELossless),
        ],
    )
    def test_lossless_of_another_encoder(
        self, kind: str, syntax: UID, source: Path, grey: np.ndarray
    ) -> None:
        path = by_gdcm(source, kind)
        assert syntax_of(path) == syntax
        np.testing.assert_array_equal(read_dicom_pixels(path).pixels[0], grey)

    @needs_gdcm
    def test_lossless_jpeg_of_a_real_slice(self, real_data: Path, tmp_path: Path) -> None:
        path = tmp_path / "ct.dcm"
        path.write_bytes((real_data / "dicom" / "ct_image.dcm").read_bytes())
        encoded = by_gdcm(path, "JPEGLosslessProcess14_1")
        np.testing.assert_array_equal(read_dicom_pixels(encoded).pixels, read_dicom_pixels(path).pixels)

    def test_near_lossless(self, source: Path, grey: np.ndarray) -> None:
        path = in_syntax(source, JPEGLSNearLossless, jls_error=NEAR)
        difference = np.abs(read_dicom_pixels(path).pixels[0] - grey)
        assert 0 < difference.max() <= NEAR

    def test_lossy_wavelets(self, source: Path, grey: np.ndarray) -> None:
        path = in_syntax(source, JPEG2000, j2k_psnr=[40])
        difference = read_dicom_pixels(path).pixels[0] - grey
        assert 10 * np.log10(255**2 / np.mean(difference**2)) == pytest.approx(40, abs=4)

    @pytest.mark.parametrize(
        "syntax", [JPEGBaseline8Bit, JPEGExtended12Bit], ids=lambda syntax: syntax.keyword
    )
    def test_lossy_jpeg_of_8_bits(self, syntax: UID, source: Path, grey: np.ndarray) -> None:
        assert np.abs(read_dicom_pixels(by_pillow(source, syntax)).pixels[0] - grey).mean() < LOSSY

    def test_colours(
        self, radiograph: Dataset, grey: np.ndarray, saved: Callable[..., Path], tmp_path: Path
    ) -> None:
        colours = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=-1)
        source = saved(radiograph, colours, tmp_path / "source.dcm")
        for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless, DeflatedExplicitVRLittleEndian):
            shown = read_dicom_pixels(in_syntax(source, syntax)).pixels
            np.testing.assert_array_equal(shown, colours.transpose(2, 0, 1), err_msg=syntax.name)

    @pytest.mark.parametrize(
        ("name", "same"),
        [
            ("MR_small_RLE.dcm", "MR_small.dcm"),
            ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
            ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
            ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ],
    )
    def test_files_of_other_makers(self, name: str, same: str) -> None:
        paths = [pydicom.data.get_testdata_file(each, download=False) for each in (name, same)]
        if None in paths:
            pytest.skip("pydicom comes without this file")
        first, second = (read_dicom_pixels(path).pixels for path in paths)
        np.testing.assert_array_equal(first, second)


class TestWithoutPreamble:
    @pytest.mark.parametrize(
        "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=lambda each: each.keyword
    )
    def test_bare_dataset(self, syntax: UID, source: Path, grey: np.ndarray) -> None:
        dataset = pydicom.dcmread(source)
        del dataset.file_meta
        dataset.preamble = None
        path = source.with_name("bare")
        pydicom.dcmwrite(path, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
        assert path.read_bytes()[:2] == b"\x08\x00"
        np.testing.assert_array_equal(read_dicom_pixels(path).pixels[0], grey)


class TestErrors:
    @pytest.mark.parametrize(
        ("syntax", "packages"),
        [
            (JPEGLosslessSV1, "python-gdcm"),
            (JPEGLossless, "python-gdcm"),
            (JPEGLSLossless, "pyjpegls or python-gdcm"),
            (JPEG2000, "pylibjpeg-openjpeg or python-gdcm or pillow"),
            (HTJ2KLossless, "pylibjpeg-openjpeg"),
            (JPEGBaseline8Bit, "pillow or python-gdcm"),
        ],
        ids=lambda each: getattr(each, "keyword", ""),
    )
    def test_missing_package_is_named(
        self, syntax: UID, packages: str, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(decoding, "find_spec", lambda name: None)
        path = by_pillow(source, syntax)
        with pytest.raises(
            ValueError, match=rf"jpeg\.dcm needs a package that decodes .*: pip install {packages}$"
        ):
            read_dicom_pixels(path)

    def test_every_still_syntax_has_its_packages(self) -> None:
        assert decoders(ExplicitVRLittleEndian) == decoders(RLELossless) == ()
        for syntax in (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL):
            assert [each.package for each in decoders(syntax)] == ["pylibjpeg-openjpeg"]
        assert "libjpeg" not in {
            each.package.removeprefix("pylibjpeg-") for each in decoders(JPEGExtended12Bit)
        }

    @pytest.mark.parametrize(
        ("syntax", "name"), [(MPEG2MPML, "MPEG2 Main Profile"), (UID("1.2.3"), r"1\.2\.3"), (UID(""), "none")]
    )
    def test_video_and_unknown(self, syntax: UID, name: str) -> None:
        with pytest.raises(
            ValueError, match=f"transfer syntax of still images, got {name}.*: convert the file"
        ):
            decoders(syntax)

    def test_pixels_that_are_nonsense(self, source: Path) -> None:
        dataset = pydicom.dcmread(source)
        dataset.PixelData = encapsulate([b"no picture at all"])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.save_as(source)
        with pytest.raises(ValueError, match=r"source\.dcm must hold pixels that can be decoded, got: "):
            read_dicom_pixels(source)

    @pytest.mark.parametrize(
        "syntax", [ExplicitVRLittleEndian, JPEG2000Lossless, DeflatedExplicitVRLittleEndian]
    )
    def test_cut_off_anywhere(self, syntax: UID, source: Path) -> None:
        """One error whose words are of the file, wherever it is cut; the last bytes are no pixels when compressed."""
        whole = in_syntax(source, syntax).read_bytes()
        path = source.with_name("cut.dcm")
        for share in (0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 0.97):
            path.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(
                ValueError, match=r"cut\.dcm must (be a|hold) .*(cut off|another kind of file)"
            ):
                read_dicom_pixels(path)

    def test_deflated_stream_is_whole(self, source: Path) -> None:
        path = in_syntax(source, DeflatedExplicitVRLittleEndian)
        raw = path.read_bytes()
        path.write_bytes(raw[:-200] + bytes(200))
        with pytest.raises(ValueError, match=r"must (be a|hold) ") as error:
            read_dicom_pixels(path)
        assert not isinstance(error.value, zlib.error)


class TestNoImages:
    def test_text_called_dcm(self, tmp_path: Path) -> None:
        (tmp_path / "a.dcm").write_text("left lower lung" * 20)
        with pytest.raises(
            ValueError, match=r"a\.dcm must be a readable DICOM file, got another kind of file"
        ):
            read_dicom_pixels(tmp_path / "a.dcm")

    def test_report_says_that_it_is_none(self, real_data: Path) -> None:
        with pytest.raises(ValueError, match=r"one without \(SR\): it is no image"):
            read_dicom_pixels(real_data / "dicom" / "sr_document.dcm")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"a\.dcm must be a readable DICOM file, got: No such file"):
            read_dicom_pixels(tmp_path / "a.dcm")
