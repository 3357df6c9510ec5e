"""The table of cases: what is written is read again, and a broken table is refused in one sentence."""

import pytest

from rl_nnunet.case_table import TableRow, read_case_table, read_patients, write_case_table
from rl_nnunet.errors import InputError

ROWS = [
    TableRow("p1_a", "p1", "train", {"grade": "HGG", "age": "60.5", "note": 'a "quoted", longer\ntext'}),
    TableRow("p1_b", "p1", "train", {"grade": "", "age": "", "note": ""}),
    TableRow("zoë", "p2", "test", {"grade": "LGG", "age": "", "note": "-"}),
]


def test_what_is_written_is_read_again(tmp_path):
    write_case_table(tmp_path / "cases.csv", ROWS)
    assert read_case_table(tmp_path / "cases.csv") == ROWS
    assert (tmp_path / "cases.csv").read_text(encoding="utf-8").startswith("case,patient,part,grade,age,note\n")


def test_details_of_some_cases_are_empty_in_the_others(tmp_path):
    rows = [TableRow("a", "a", "train", {"age": "1"}), TableRow("b", "b", "test", {"grade": "LGG"})]
    write_case_table(tmp_path / "cases.csv", rows)
    assert [row.details for row in read_case_table(tmp_path / "cases.csv")] == [
        {"age": "1", "grade": ""},
        {"age": "", "grade": "LGG"},
    ]


@pytest.mark.parametrize("content", ["\ufeffpart,case,patient\ntrain,a,p1\n", "part,case,patient\r\ntrain,a,p1\r\n"])
def test_table_that_a_spreadsheet_program_saved(content, tmp_path):
    (tmp_path / "cases.csv").write_bytes(content.encode())
    assert read_case_table(tmp_path / "cases.csv") == [TableRow("a", "p1", "train", {})]


BROKEN = {
    "no file": (None, "cannot be read as a table (No such file or directory)"),
    "not UTF-8": (b"case,patient,part\nzo\xeb,p1,train\n", "cannot be read as a table ('utf-8'"),
    "no table": (b"case,patient,part\n" + b"x" * 200_000, "cannot be read as a table (field larger"),
    "empty": (b"", "has no rows"),
    "columns missing": (b"case,part\na,train\n", "has no column patient"),
    "another separator": (b"case;patient;part\na;p1;train\n", "has no column case"),
    "value missing": (b"case,patient,part,age\na,p1,train\n", "row 2 has not as many values"),
    "value too many": (b"case,patient,part\na,p1,train\nb,p1,train,60\n", "row 3 has not as many values"),
    "case twice": (b"case,patient,part\na,p1,train\na,p2,test\n", "names the case a twice"),
    "unknown part": (b"case,patient,part\na,p1,validation\n", "'validation' as the part of a; write train or test"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_table_is_refused(name, tmp_path):
    content, fragment = BROKEN[name]
    path = tmp_path / "cases.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read_case_table(path)
    sentence = str(refusal.value)
    assert sentence.startswith(str(path))
    assert fragment in sentence
    assert sentence.endswith(".")


def test_patients_of_cases(tmp_path):
    with pytest.raises(
        InputError, match=r"There is no .*cases\.csv, which says which scans are of one patient; convert it\."
    ):
        read_patients(tmp_path, ["p1_a"], "convert it")
    write_case_table(tmp_path / "cases.csv", ROWS)
    assert read_patients(tmp_path, ["p1_a"], "convert it") == {"p1_a": "p1", "p1_b": "p1", "zoë": "p2"}
    with pytest.raises(InputError, match=r"cases\.csv does not say whose scan p3 is; convert it\."):
        read_patients(tmp_path, ["p1_a", "p3"], "convert it")
