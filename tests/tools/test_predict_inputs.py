"""tools.prediction: which cases there are, what they are called, and which sentence each gets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.data.phantom_case import phantom_case
from common.data.phantom_files import write_phantom_dicom
from tools.prediction.inputs import Case, list_cases
from tools.prediction.naming import Named, case_ids
from tools.prediction.request import PredictError, PredictRequest, Shard, preview_limit, read_shard
from tools.prediction.sheets import read_sheet
from tools.prediction.texts import NO_ROW, NO_SENTENCE, FoundSentences, find_sentences, table_sentences

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"

PATHS = st.lists(
    st.text(alphabet="abAB/._ -é", min_size=1, max_size=8).map(lambda text: text + ".png"),
    min_size=1,
    max_size=8,
    unique=True,
)


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(path)
    return path


def case(place: str, *, name: str | None = None) -> Case:
    return Case(name or place.replace("/", "_").removesuffix(".png"), (place,), place)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


class TestNames:
    def test_are_paths_without_suffix(self) -> None:
        items = [Named("in", "a/x.png", "1"), Named("in", "b/x.png", "2"), Named("in", "scan 1.nii.gz", "3")]
        assert case_ids(items) == ["a_x", "b_x", "scan_1"]

    @pytest.mark.parametrize(
        ("items", "expected"),
        [
            ([("one", "x.png"), ("two", "x.png")], ["one_x", "two_x"]),
            ([("in", "x.png"), ("in", "x.jpg")], ["in_x_png", "in_x_jpg"]),
            ([("in", "X.png"), ("in", "x.PNG")], None),
            ([("in", "a/x.png"), ("in", "a_x.png")], None),
            ([("in", "x.png"), ("in", "x.png")], None),
        ],
    )
    def test_that_collide_get_longer(self, items: list[tuple[str, str]], expected: list[str] | None) -> None:
        names = case_ids([Named(root, path, f"{index}/{path}") for index, (root, path) in enumerate(items)])
        assert len({name.casefold() for name in names}) == len(items)
        assert expected is None or names == expected

    @given(PATHS)
    def test_are_unique_and_names_of_files(self, paths: list[str]) -> None:
        names = case_ids([Named("in", path, path) for path in paths])
        assert len({name.casefold() for name in names}) == len(paths)
        assert not any(set("/\\ ") & set(name) or name.startswith(".") for name in names)


class TestList:
    def test_goes_through_folders(self, tmp_path: Path) -> None:
        for name in ("b/x.png", "a/x.png", ".hidden/x.png", "a/.x.png", "out/predictions/x.png"):
            picture(tmp_path / name)
        write(tmp_path / "notes.txt", "no image")
        listing = list_cases([tmp_path], exclude=tmp_path / "out")
        assert [(each.id, each.place) for each in listing.cases] == [
            ("a_x", f"{tmp_path.name}/a/x.png"),
            ("b_x", f"{tmp_path.name}/b/x.png"),
        ]

    def test_takes_named_files_whatever_they_are(self, tmp_path: Path) -> None:
        file = write(tmp_path / "notes.txt", "no image")
        assert list_cases([file]).cases == (Case("notes", (str(file),), "notes.txt"),)

    def test_takes_a_file_once(self, tmp_path: Path) -> None:
        file = picture(tmp_path / "x.png")
        listing = list_cases([tmp_path, file])
        assert len(listing.cases) == 1
        assert listing.notes == ("1 files are named more than once and are taken once",)

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_reads_a_table_of_paths(self, tmp_path: Path, separator: str) -> None:
        picture(tmp_path / "a" / "x.png")
        table = write(tmp_path / "list.csv", f"Image{separator}n\na\\x.png{separator}1\n", "utf-8-sig")
        assert [(each.id, each.files) for each in list_cases([table]).cases] == [
            ("a_x", (str(tmp_path / "a" / "x.png"),))
        ]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("name\nx.png\n", "must have a column 'image'"),
            ("image,n\n,1\n", "line 2 must name a file"),
            ("image\n", "header and at least one row"),
            ("image,image\na,b\n", "every column once"),
            ("image,n\na,b,c\n", "line 2 must have 2 values"),
        ],
    )
    def test_refuses_tables(self, tmp_path: Path, content: str, message: str) -> None:
        with pytest.raises(PredictError, match=message):
            list_cases([write(tmp_path / "list.csv", content)])

    def test_refuses_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(PredictError, match="does not exist"):
            list_cases([tmp_path / "none"])
        with pytest.raises(PredictError, match="must hold images"):
            list_cases([tmp_path])

    def test_takes_a_series_as_one_case(self, tmp_path: Path, real_data: Path) -> None:
        shutil.copytree(real_data / "dicom" / "ct_series", tmp_path / "study" / "ct")
        shutil.copy(real_data / "dicom" / "chest_cr_monochrome1_j2k.dcm", tmp_path / "study" / "cr.dcm")
        shutil.copy(real_data / "dicom" / "sr_document.dcm", tmp_path / "study" / "report.dcm")
        listing = list_cases([tmp_path / "study"])
        files = {each.id: len(each.files) for each in listing.cases}
        assert files == {"cr": 1, "ct": len(list((tmp_path / "study" / "ct").iterdir()))}
        assert listing.notes == (
            "1 DICOM files without an image of their own (reports, masks …) are no cases",
        )

    def test_takes_a_named_report_as_a_case(self, real_data: Path) -> None:
        assert [each.id for each in list_cases([real_data / "dicom" / "sr_document.dcm"]).cases] == [
            "sr_document"
        ]


class TestTexts:
    CASES = (case("in/a/x.png", name="a_x"), case("in/b/x.png", name="b_x"))

    @pytest.mark.parametrize(
        "names", [("a/x.png", "b/x.png"), ("in/a/x.png", "in/b/x"), ("a_x", "b_x"), ("./a\\x.png", "b/x")]
    )
    def test_finds_rows_by_any_name(self, tmp_path: Path, names: tuple[str, str]) -> None:
        table = write(tmp_path / "t.csv", f"image;text\n{names[0]};left\n{names[1]};right\n", "utf-8-sig")
        sentences, notes = table_sentences(table, self.CASES)
        assert [sentences.of(index, each).text for index, each in enumerate(self.CASES)] == ["left", "right"]
        assert notes == []

    def test_tells_missing_repeated_and_unused_rows(self, tmp_path: Path) -> None:
        table = write(
            tmp_path / "t.csv", "id,text,laterality\na_x,left,patient\na_x,left,patient\nc,other,\n"
        )
        sentences, notes = table_sentences(table, self.CASES, laterality="image")
        assert sentences.of(0, self.CASES[0]).laterality == "patient"
        assert sentences.of(1, self.CASES[1]).warnings == (NO_ROW,)
        assert notes == [
            "1 rows of t.csv repeat another",
            "1 images have no row in t.csv and run without a sentence: in/b/x.png",
            "1 rows of t.csv fit no image: c",
        ]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("image,mask\na/x.png,m\n", "must have a column 'image' or 'id' and a column 'text'"),
            ("id,text\na_x,left\na_x,right\n", "line 3 names the same image as line 2"),
            ("image,text\nx.png,left\n", "which is in/a/x.png and in/b/x.png"),
            ("id,text\nc,left\n", "got none of them"),
            ("id,text,laterality\na_x,left,mine\n", "laterality image or patient, got 'mine'"),
            ("id,text\n,left\n", "must name an image"),
        ],
    )
    def test_refuses_tables(self, tmp_path: Path, content: str, message: str) -> None:
        with pytest.raises(PredictError, match=message):
            table_sentences(write(tmp_path / "t.csv", content), self.CASES)

    def test_reads_excel(self, tmp_path: Path) -> None:
        import openpyxl

        book = openpyxl.Workbook()
        book.active.append(["Image", "Description"])
        book.active.append(["a/x.png", "left, lower"])
        book.save(tmp_path / "t.xlsx")
        sentences, _ = table_sentences(tmp_path / "t.xlsx", self.CASES)
        assert sentences.of(0, self.CASES[0]).text == "left, lower"
        assert read_sheet(tmp_path / "t.xlsx").columns == ("image", "description")

    def test_reads_sidecars(self, tmp_path: Path) -> None:
        first, second = picture(tmp_path / "x.png"), picture(tmp_path / "y.png")
        write(tmp_path / "x.json", '{"text": "lower left lung", "laterality": "patient"}')
        finder = FoundSentences(sidecar_only=True)
        found = finder.of(0, Case("x", (str(first),), "x.png"))
        assert (found.text, found.laterality, found.source) == ("lower left lung", "patient", "sidecar")
        assert finder.of(1, Case("y", (str(second),), "y.png")).warnings == (NO_SENTENCE,)

    def test_refuses_a_picture_as_dicom(self, tmp_path: Path) -> None:
        file = picture(tmp_path / "x.png")
        with pytest.raises(ValueError, match="must be a DICOM file to hold a sentence"):
            FoundSentences(sidecar_only=False).of(0, Case("x", (str(file),), "x.png"))

    def test_reads_the_report_of_the_study(self, tmp_path: Path, real_data: Path) -> None:
        import pydicom

        image = pydicom.dcmread(real_data / "dicom" / "chest_cr_monochrome1_j2k.dcm")
        report = pydicom.dcmread(real_data / "dicom" / "sr_document.dcm")
        report.StudyInstanceUID = image.StudyInstanceUID
        item, name = pydicom.Dataset(), pydicom.Dataset()
        name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "121073", "DCM", "Impression"
        item.RelationshipType, item.ValueType, item.TextValue = (
            "CONTAINS",
            "TEXT",
            "Opacity, lower left lung.",
        )
        item.ConceptNameCodeSequence = [name]
        report.ContentSequence = [item]
        image.save_as(tmp_path / "cr.dcm")
        report.save_as(tmp_path / "sr.dcm")
        (found,) = list_cases([tmp_path]).cases
        assert found.reports == (str(tmp_path / "sr.dcm"),)
        sentence = FoundSentences(sidecar_only=False).of(0, found)
        assert sentence.laterality == "patient"
        assert (sentence.source, sentence.text) == ("report", "Opacity, lower left lung.")

    @pytest.mark.parametrize(("modality", "meant"), [("CR", "patient"), ("ES", "image")])
    def test_an_endoscope_has_no_patients_left(self, tmp_path: Path, modality: str, meant: str) -> None:
        import pydicom

        file = write_phantom_dicom(phantom_case(0, size=64), tmp_path / "x.dcm")
        image = pydicom.dcmread(file)
        image.Modality, image.ImageComments = modality, "One polyp in the lower left."
        image.save_as(file)
        found = Case("x", (str(file),), "x.dcm")
        sentence = FoundSentences(sidecar_only=False).of(0, found)
        assert (sentence.text, sentence.laterality) == ("One polyp in the lower left.", meant)
        assert FoundSentences(sidecar_only=False, laterality="patient").of(0, found).laterality == "patient"


class TestRequest:
    BASE = PredictRequest(bundle=Path("b"), inputs=(Path("x"),), output=Path("o"))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "exactly one of .* got none"),
            ({"text": "", "texts": Path("t")}, "got --text and --texts"),
            ({"text_from": "mail"}, "text-from must be one of"),
            ({"text_from": "dicom", "laterality": "image"}, "patient's left"),
            ({"text": "", "laterality": "mine"}, "laterality must be"),
            ({"text": "", "batch": 0}, "batch must be at least 1"),
            ({"text": "", "overwrite": True, "resume": False}, "only one of"),
            ({"text": "", "overwrite": True, "shard": Shard(0, 2)}, "must not be given to one of several"),
        ],
    )
    def test_refuses_options(self, options: dict[str, object], message: str) -> None:
        from dataclasses import replace

        with pytest.raises(PredictError, match=message):
            replace(self.BASE, **options).check()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"text": ""},
                "--text must be left out for tcsa_uda_segmentation, which segments volumes into classes",
            ),
            ({"text": "liver", "modality": "ct"}, "--modality says what the volumes are"),
            ({"texts": Path("t")}, "--texts must be left out"),
            ({"text_from": "dicom", "laterality": "image"}, "--text-from and --laterality must be left out"),
            ({"batch": 0}, "batch must be at least 1"),
        ],
    )
    def test_a_bundle_of_classes_takes_no_sentence(self, options: dict[str, object], message: str) -> None:
        from dataclasses import replace

        base = replace(self.BASE, bundle=BUNDLES / "tcsa_uda_segmentation")
        base.check()
        replace(base, modality="mr").check()
        with pytest.raises(PredictError, match=message):
            replace(base, **options).check()

    def test_a_bundle_of_sentences_takes_no_modality(self) -> None:
        from dataclasses import replace

        base = replace(self.BASE, bundle=BUNDLES / "baseline_segmentation", text="left")
        base.check()
        message = "--modality must be left out for baseline_segmentation, which reads sentences, got 'ct'"
        with pytest.raises(PredictError, match=message):
            replace(base, modality="ct").check()

    def test_without_a_sentence_its_source_is_none(self) -> None:
        sentences, notes = find_sentences(self.BASE, [])
        sentence = sentences.of(0, case("x.nii.gz"))
        assert (sentence.text, sentence.source, sentence.warnings, notes) == ("", "none", (), [])

    def test_one_sentence_goes_to_all(self) -> None:
        from dataclasses import replace

        sentences, notes = find_sentences(replace(self.BASE, text="left", laterality="patient"), [])
        sentence = sentences.of(3, case("x.png"))
        assert (sentence.text, sentence.laterality, notes) == ("left", "patient", [])

    @pytest.mark.parametrize(
        ("text", "environment", "expected"),
        [
            (None, {}, Shard()),
            (None, {"RANK": "1", "WORLD_SIZE": "4"}, Shard(1, 4)),
            ("2/3", {"RANK": "1", "WORLD_SIZE": "4"}, Shard(2, 3)),
        ],
    )
    def test_shards(self, text: str | None, environment: dict[str, str], expected: Shard) -> None:
        assert read_shard(text, environment) == expected

    @pytest.mark.parametrize("text", ["3/3", "1", "a/b", "0/0"])
    def test_refuses_shards(self, text: str) -> None:
        with pytest.raises(PredictError, match="shard must be"):
            read_shard(text, {})

    def test_every_case_is_in_one_shard(self) -> None:
        owners = [[s for s in range(3) if Shard(s, 3).owns(position)] for position in range(10)]
        assert all(len(owner) == 1 for owner in owners)

    @pytest.mark.parametrize(("text", "limit"), [("all", None), ("none", -1), ("0", 0), ("20", 20)])
    def test_previews(self, text: str, limit: int | None) -> None:
        assert preview_limit(text) == limit

    def test_refuses_previews(self) -> None:
        with pytest.raises(PredictError, match="previews must be"):
            preview_limit("many")
