import errno
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_windowing

from edgekit.errors import InputError, UsageError
from edgekit.evaluation.film_header import read_header
from edgekit.phantom import cohort, parallel
from edgekit.phantom.cohort import make_cohort
from edgekit.phantom.dicom import write_film
from edgekit.phantom.fields import FIELDS
from edgekit.phantom.plan import CohortParameters, plan_cohort
from edgekit.phantom.scene import simulate_patient, simulate_rows
from edgekit.phantom.sites import SITES
from edgekit.studies import read_studies

FIVE = CohortParameters(patients=5, size=96, split="test", seed=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Five patients, made by two workers."""
    out = tmp_path_factory.mktemp("cohorts") / "two"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "count_threads", lambda: 2)
        make_cohort(out, FIVE)
    return out


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(parallel, "count_threads", lambda: 1)


def _read_all(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}


def test_the_table_names_films_that_exist(made):
    studies = read_studies(made / "studies.csv")
    assert len(studies) == 5
    assert {study.brand for study in studies} == {f"design-{letter}" for letter in "abcde"}
    for study in studies:
        assert study.split == "test"
        assert study.box("ap") is not None
        assert study.box("lateral") is not None
        assert study.film("ap").exists()
        assert study.film("lateral").exists()


@pytest.mark.usefixtures("alone")
def test_one_worker_makes_the_same_bytes_as_two(made, tmp_path):
    make_cohort(tmp_path / "one", FIVE)
    assert _read_all(tmp_path / "one") == _read_all(made)


@pytest.mark.usefixtures("alone")
def test_an_interrupted_run_continues_where_it_stopped(made, tmp_path, monkeypatch):
    calls = []

    def stop_at_third(brands, seed, **rest):
        calls.append(seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return simulate_rows(brands, seed, **rest)

    out = tmp_path / "stopped"
    monkeypatch.setattr(cohort, "simulate_rows", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        make_cohort(out, FIVE)
    assert not (out / "studies.csv").exists()
    assert len(list(out.glob("films/*"))) == 4
    with (out / ".finished.jsonl").open("a") as journal:
        journal.write('{"patient_id": "p0003", "bo')  # a kill in the middle of a line

    make_cohort(out, FIVE)
    assert len(calls) == 3 + 3
    assert _read_all(out) == _read_all(made)

    (out / "films" / "p0002_ap.dcm").unlink()
    make_cohort(out, FIVE)
    assert len(calls) == 6 + 1
    assert _read_all(out) == _read_all(made)


@pytest.mark.parametrize("change", [{"seed": 5}, {"size": 128}, {"patients": 6}, {"split": "train"}])
def test_other_parameters_do_not_continue_a_cohort(made, change):
    (name,) = change
    with pytest.raises(InputError, match=f"other parameters: {name}"):
        make_cohort(made, replace(FIVE, **change))


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        make_cohort(tmp_path, FIVE)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.usefixtures("alone")
def test_a_full_disk_leaves_only_whole_films(tmp_path, monkeypatch):
    save, written = pydicom.Dataset.save_as, []

    def fill(dataset, path, **options):
        written.append(path)
        if len(written) == 4:
            Path(path).write_bytes(b"half a film")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(dataset, path, **options)

    monkeypatch.setattr(pydicom.Dataset, "save_as", fill)
    with pytest.raises(InputError, match="No space left"):
        make_cohort(tmp_path / "full", FIVE)
    films = list((tmp_path / "full" / "films").iterdir())
    assert len(films) == 3
    for film in films:
        assert pydicom.dcmread(film).pixel_array.size


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"patients": 0}, "patients is 0"),
        ({"patients": None}, "either a number of patients or a preset"),
        ({"preset": "demo"}, "either a number of patients or a preset"),
        ({"patients": None, "preset": "holiday"}, "unknown preset 'holiday'"),
        ({"patients": None, "preset": "detector", "site": "b"}, "detector has its own sites"),
        ({"patients": None, "preset": "detector", "split": "readers"}, "no films of its own for the split 'readers'"),
        ({"split": "exam"}, "unknown split 'exam'"),
        ({"split": None}, "patients is 5"),
        ({"size": 10}, "size is 10"),
        ({"size": 5000}, "size is 5000"),
        ({"site": "q"}, "unknown site 'q'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_parameters_are_refused_by_name(tmp_path, change, named):
    with pytest.raises(UsageError, match=named) as failure:
        make_cohort(tmp_path / "never", replace(FIVE, **change))
    assert failure.value.remedy
    assert not (tmp_path / "never").exists()


def test_films_can_not_be_mistaken_for_a_patient_s(made):
    instances = set()
    for study in read_studies(made / "studies.csv"):
        for view, position in (("ap", "AP"), ("lateral", "LL")):
            film = pydicom.dcmread(study.film(view))
            assert list(film.ImageType) == ["DERIVED", "SECONDARY"]
            assert film.Manufacturer == "edgekit phantom"
            assert str(film.PatientName) == f"SIMULATED^{study.patient_id}"
            assert film.Modality == "CR"
            assert film.ViewPosition == position
            assert film.BitsAllocated == 16
            assert film.BitsStored == film.HighBit + 1
            assert film.BitsStored in (10, 12, 14, 16)
            assert film.pixel_array.max() < 1 << film.BitsStored
            assert film.file_meta.TransferSyntaxUID.is_compressed
            assert not film.file_meta.TransferSyntaxUID.is_implicit_VR
            assert str(study.brand) not in str(film)
            for uid in (film.SOPInstanceUID, film.StudyInstanceUID, film.SeriesInstanceUID):
                assert uid.startswith("2.25.")
                assert uid.is_valid
            instances.add(film.SOPInstanceUID)
    assert len(instances) == 10


def test_another_reader_sees_the_film_that_was_simulated(tmp_path):
    for view, film in simulate_patient("design-d", 11, size=160, has_crosslink=True).items():
        path = tmp_path / f"{view}.dcm"
        write_film(film, path, patient_id="p1", view=view, source="test")
        read = pydicom.dcmread(path)
        np.testing.assert_array_equal(read.pixel_array, film.pixels)
        shown = apply_windowing(read.pixel_array, read) / ((1 << read.BitsStored) - 1) * 255
        if read.PhotometricInterpretation == "MONOCHROME1":
            shown = 255 - shown
        assert np.abs(shown - film.display).max() <= 0.51


def _count(patients, split, *, brand=None):
    rows = [row for patient in patients for row in patient.rows if row.split == split]
    return Counter(row.brand for row in rows if brand is None or row.brand == brand)


def test_the_demo_preset_is_stratified_and_its_order_tells_nothing(tmp_path):
    patients = plan_cohort(tmp_path, CohortParameters(preset="demo"))
    rows = [row for patient in patients for row in patient.rows]
    with_construct = [row for row in rows if row.brand != "none"]
    assert Counter(row.split for row in with_construct) == {"train": 280, "validation": 40, "test": 140}
    assert Counter(row.split for row in rows if row.brand == "none") == {"train": 28, "validation": 10, "test": 14}
    for split in ("train", "validation", "test"):
        brands = Counter(row.brand for row in with_construct if row.split == split)
        assert len(brands) == 7
        assert max(brands.values()) - min(brands.values()) <= 1
        for brand, count in brands.items():
            bridged = sum(bool(row.has.get("crosslink")) for row in with_construct if (row.split, row.brand) == (split, brand))
            assert bridged == 0 if brand == "design-f" else abs(bridged - count / 2) <= 0.5, (split, brand)
    # Rank correlation of file order with brand, crosslink and split: a few hundredths by chance.
    order = np.arange(len(with_construct))
    for labels in zip(*((row.brand, str(row.has["crosslink"]), row.split) for row in with_construct), strict=True):
        codes = np.unique(labels, return_inverse=True)[1]
        assert abs(np.corrcoef(order, codes)[0, 1]) < 0.15


def test_the_paper_preset_has_the_study_s_counts(tmp_path):
    """Yao et al. 2024: 529 patients (90, 85, 80, 45, 85, 60, 84), 338/85/106, 27 readers, 31 external."""
    patients = plan_cohort(tmp_path, CohortParameters(preset="paper", unseen=True))
    names = [f"design-{letter}" for letter in "abcdefg"]
    inner = sum((_count(patients, split) for split in ("train", "validation", "test")), Counter())
    assert [inner[name] for name in names] == [90, 85, 80, 45, 85, 60, 84]
    assert [_count(patients, "test")[name] for name in names] == [18, 17, 16, 9, 17, 12, 17]
    sizes = {
        split: sum(_count(patients, split)[name] for name in names) for split in ("train", "validation", "test", "readers", "external")
    }
    assert sizes == {"train": 338, "validation": 85, "test": 106, "readers": 27, "external": 31}
    for split, size in sizes.items():
        negatives = [patient for patient in patients if patient.rows[0].split == split and patient.rows[0].brand == "none"]
        assert len(negatives) == pytest.approx(0.2 * size, abs=0.5)
        assert Counter(patient.metal for patient in negatives)["some"] == pytest.approx(len(negatives) / 2, abs=0.5)
    assert {patient.site for patient in patients if patient.rows[0].split == "external"} == {"b"}
    assert {patient.site for patient in patients if patient.rows[0].split != "external"} == {"a"}
    unseen = [patient.rows[0] for patient in patients if patient.rows[0].brand == "design-x"]
    assert {row.split for row in unseen} == {"test"}
    assert not any(row.brand == "design-x" for patient in plan_cohort(tmp_path, CohortParameters(preset="paper")) for row in patient.rows)


def test_the_detector_preset_is_balanced_paired_and_shifted(tmp_path):
    patients = plan_cohort(tmp_path, CohortParameters(preset="detector"))
    rows = [row for patient in patients for row in patient.rows]
    films = 2 * len(rows)
    assert films == 17_800
    negatives = 2 * sum(row.brand == "none" for row in rows)
    assert 0.35 <= negatives / films <= 0.50
    pairs = [patient for patient in patients if len(patient.rows) == 2]
    assert len(pairs) > len(patients) / 3
    assert all([row.brand for row in patient.rows] == ["design-random", "none"] for patient in pairs)
    assert 2 * sum(row.brand == "none" and row.split == "validation" for row in rows) >= 500
    assert {patient.site for patient in patients if patient.rows[0].split == "train"} == {"many"}
    assert {patient.site for patient in patients if patient.rows[0].split == "validation"} == {"others"}
    assert len({film for row in rows for film in (row.film("ap"), row.film("lateral"))}) == films


def test_what_a_detector_is_judged_on_is_made_apart(tmp_path):
    """Constructs of a third kind of hospital, and of the films without any half plain, half with other metal."""
    patients = plan_cohort(tmp_path, CohortParameters(preset="detector", split="test"))
    rows = [row for patient in patients for row in patient.rows]
    assert {row.split for row in rows} == {"test"}
    assert {patient.site for patient in patients} == {"elsewhere"}
    assert 2 * sum(row.brand == "design-random" for row in rows) >= 3000
    metal = Counter(patient.metal for patient in patients if patient.rows[0].brand == "none")
    assert metal["none"] == metal["some"] >= 400


def test_a_number_of_patients_is_spread_evenly_and_split(tmp_path):
    rows = [row for patient in plan_cohort(tmp_path, CohortParameters(patients=70, seed=1)) for row in patient.rows]
    assert set(Counter(row.brand for row in rows).values()) == {10}
    assert Counter(row.split for row in rows)["test"] == pytest.approx(14, abs=1)


@pytest.mark.usefixtures("alone")
def test_rows_that_an_earlier_edgekit_made_are_made_again(tmp_path):
    """Its journal has boxes alone: the films are written once more, and the table tells levels and other metal of all."""
    parameters = replace(FIVE, patients=2)
    table = make_cohort(tmp_path / "films", parameters)
    expected = table.read_text()
    journal = tmp_path / "films" / ".finished.jsonl"
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    journal.write_text("".join(json.dumps({**row, "result": [made["boxes"] for made in row["result"]]}) + "\n" for row in rows))
    table.unlink()
    assert make_cohort(tmp_path / "films", parameters).read_text() == expected


@pytest.mark.usefixtures("alone")
def test_a_pair_is_two_rows_of_one_patient(tmp_path, monkeypatch):
    monkeypatch.setattr("edgekit.phantom.plan._DETECTOR", {"train": (2, 0, 1, 0), "validation": (1, 0, 0, 1)})
    studies = read_studies(make_cohort(tmp_path / "pairs", CohortParameters(preset="detector", size=96, seed=2)))
    assert len(studies) == 8
    for patient_id in {study.patient_id for study in studies}:
        rows = [study for study in studies if study.patient_id == patient_id]
        for row in rows:
            assert (row.box("ap") is None) == (row.brand == "none")
        for row in rows:
            assert (row.levels == 0) == (row.brand == "none")
            for view, film in row.given.items():
                header = read_header(film)
                assert header.is_simulated
                assert header.processing in (*SITES["many"].families, *SITES["others"].families)
                assert (header.processing in SITES["others"].families) == (row.split == "validation")
                if header.field in FIELDS:
                    assert (FIELDS[header.field].region, FIELDS[header.field].view) == (header.region, view)
                else:
                    assert header.field == "aimed at the levels"
        if len(rows) == 2:
            assert {row.split for row in rows} in ({"train"}, {"validation"})
            for view in ("ap", "lateral"):
                shapes = {pydicom.dcmread(row.film(view)).pixel_array.shape for row in rows}
                assert len(shapes) == 1


@pytest.mark.usefixtures("alone")
def test_metadata_alone_does_not_tell_the_brand(tmp_path):
    """File order, size, spacing, window, brightness and the boxes' place and size: a classifier of these alone is near 1 in 7."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = make_cohort(tmp_path / "many", replace(FIVE, patients=84))
    rows, brands = [], []
    for number, study in enumerate(read_studies(table)):
        row = [number]
        for view in ("ap", "lateral"):
            film, box = pydicom.dcmread(study.film(view)), study.box(view)
            grey = film.pixel_array.astype(float)
            grey = (1 << film.BitsStored) - 1 - grey if film.PhotometricInterpretation == "MONOCHROME1" else grey
            grey /= (1 << film.BitsStored) - 1
            row += [*box, box[2] - box[0], box[3] - box[1], grey.mean(), grey.std(), film.Columns, float(film.PixelSpacing[0])]
            row += [float(film.WindowCenter), float(film.WindowWidth), film.BitsStored, study.film(view).stat().st_size]
        rows.append(row)
        brands.append(study.brand)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    accuracy = cross_val_score(model, np.array(rows), brands, cv=4).mean()
    assert accuracy < 1 / 7 + 0.2
