import pytest

from rl_nnunet.errors import InputError
from rl_nnunet.planners.planning_log import printing_to


def fail_in_block(log, error):
    with printing_to(log, verbose=False):
        print(*range(30), sep="\n")
        raise error


def test_notices_and_warnings_are_seen_and_the_rest_is_kept(tmp_path, capsys):
    with printing_to(tmp_path / "log", verbose=False):
        print("a page of\ndictionaries")
        print("WARNING! Not all", end=" ")
        print("input images have the same origin!")
        print("Notice: look here")
        print("warningless")
    assert capsys.readouterr().out == "WARNING! Not all input images have the same origin!\nNotice: look here\n"
    assert (tmp_path / "log").read_text().startswith("a page of\ndictionaries\n")


def test_the_end_of_the_log_is_not_lost_when_something_fails(tmp_path, capsys):
    with pytest.raises(ZeroDivisionError):
        fail_in_block(tmp_path / "log", ZeroDivisionError())
    assert capsys.readouterr().err.splitlines() == [f"The end of {tmp_path / 'log'}:", *map(str, range(10, 30))]


def test_a_sentence_stays_alone(tmp_path, capsys):
    with pytest.raises(InputError):
        fail_in_block(tmp_path / "log", InputError("x"))
    assert capsys.readouterr() == ("", "")
