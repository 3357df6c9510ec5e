"""The table of classes: what is written is read again, and what cannot be used is refused in one sentence."""

import pytest

from rl_nnunet.branches import layout_from_dataset_json
from rl_nnunet.class_table import ClassRow, read_class_table, read_classes, write_class_table
from rl_nnunet.errors import InputError

ROWS = [ClassRow("a", "long"), ClassRow("b", "short"), ClassRow("zoë", "long", "test")]
NAMED = {"rl_nnunet": {"classes": ["short", "long"]}}


def test_what_is_written_is_read_again(tmp_path):
    write_class_table(tmp_path / "classification.csv", ROWS)
    assert read_class_table(tmp_path / "classification.csv") == ROWS


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_table_that_a_spreadsheet_program_saved(separator, mark, tmp_path):
    lines = [("Label ", "note", "Case"), (" long", "-", "a"), ("short", "", "b ")]
    text = mark + "\r\n".join(separator.join(line) for line in lines)
    (tmp_path / "classification.csv").write_bytes(text.encode())
    assert read_class_table(tmp_path / "classification.csv") == ROWS[:2]


def test_classes_have_the_order_of_dataset_json(tmp_path):
    write_class_table(tmp_path / "classification.csv", ROWS)
    classes = read_classes(tmp_path, NAMED, ["a", "b"])
    assert classes.names == ("short", "long")
    assert classes.labels == {"a": 1, "b": 0}


def test_classes_without_an_order_are_sorted_numbers_by_their_size(tmp_path):
    labels = ["10", "9", "other", "2"]
    rows = [ClassRow(f"case{number}", label) for number, label in enumerate(labels)]
    write_class_table(tmp_path / "classification.csv", rows)
    assert read_classes(tmp_path, {}, [row.case for row in rows]).names == ("2", "9", "10", "other")


def test_a_data_set_that_names_classes_only_is_paired():
    described = {"channel_names": {"0": "T1", "1": "T2"}, **NAMED}
    assert layout_from_dataset_json(described) == layout_from_dataset_json({"channel_names": {"0": "T1", "1": "T2"}})


BROKEN = {
    "no file": (None, "There is no .*classification.csv; a classification data set has this table"),
    "not UTF-8": (b"case,label\nzo\xeb,x\n", "cannot be read as a table .'utf-8'.*save it as UTF-8"),
    "no table": (b"case,label\n" + b"x" * 200_000, "cannot be read as a table .field larger"),
    "empty": (b"", "has no column case, only ;"),
    "no rows": (b"case,label\n", "has no rows"),
    "no label column": (b"case,class\na,x\n", "has no column label, only 'case', 'class'"),
    "long row": (b"case,label\na,x,y\n", "row 2 has not as many values"),
    "no case": (b"case,label\n,x\n", "row 2 names no case"),
    "no label": (b"case,label\na,\n", "states no label of the case a"),
    "twice": (b"case,label\na,x\na,y\n", "names the case a twice"),
    "other split": (b"case,label,split\na,x,val\n", "states 'val' as the split of a; write train or test"),
}


@pytest.mark.parametrize(("content", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_table_is_refused(content, sentence, tmp_path):
    path = tmp_path / "classification.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_class_table(path)


UNFIT = {
    "case without label": ("a,long b,short", {}, "abc", "has no label of 1 case, first c"),
    "label without case": (
        "a,long b,short c,short d,long",
        {},
        "ab",
        "labels 2 cases, first c, but there are no",
    ),
    "one class": ("a,long b,long", {}, "ab", "all training cases have one class, long"),
    "no training case of a class": ("a,long b,short c,mid,test", {}, "ab", "no training case has the class mid"),
    "unknown class": (
        "a,long b,mid",
        NAMED,
        "ab",
        "'mid' as the label of b, but the classes of .* are short",
    ),
    "names that are none": (
        "a,x b,y",
        {"rl_nnunet": {"classes": ["x", "x"]}},
        "ab",
        "must be a list of different names",
    ),
}


@pytest.mark.parametrize(("rows", "dataset_json", "cases", "sentence"), UNFIT.values(), ids=UNFIT)
def test_what_does_not_fit_the_data_set_is_refused(rows, dataset_json, cases, sentence, tmp_path):
    write_class_table(tmp_path / "classification.csv", [ClassRow(*row.split(",")) for row in rows.split()])
    with pytest.raises(InputError, match=sentence):
        read_classes(tmp_path, dataset_json, list(cases))
