"""What the demo refuses before it computes anything; that it runs is tested with the README's commands."""

import os

import pytest

from rl_nnunet import demo


@pytest.fixture
def steps(monkeypatch):
    """Note the folders that the demo would work in, in place of the minutes of work."""
    folders = []
    monkeypatch.setattr(demo._Workflow, "run", lambda workflow: folders.append(workflow.root))
    return folders


def test_second_run_takes_a_new_folder(steps, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        assert run(demo.main).code == 0
    assert [folder.name for folder in steps] == ["demo_output", "demo_output_2", "demo_output_3"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-o", "file"), "is not a folder"),
        (("-o", "full"), "is not empty"),
        (("-o", "file/below"), "cannot be used (Not a directory)"),
        (("-o", "x" * 300), "cannot be used (File name too long)"),
        (("--trainer", "nonsense"), "no trainer 'nonsense'"),
        (("--trainer", "adamw"), "no trainer 'adamw'"),
        (("--trainer", "os"), "no trainer 'os'"),
    ],
)
def test_refused_in_one_sentence(
    arguments, sentence, run, steps, tmp_path, monkeypatch, assert_refused_in_one_sentence
):
    (tmp_path / "file").touch()
    (tmp_path / "full" / "thesis").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    assert_refused_in_one_sentence(run(demo.main, *arguments), sentence)
    assert (steps, sorted(os.listdir(tmp_path))) == ([], before)


@pytest.mark.parametrize("option", ["-np", "--cases", "--test_cases", "--size"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", ""])
def test_impossible_numbers(option, value, run, steps):
    outcome = run(demo.main, option, value)
    assert outcome.code == 2
    assert f"{option}" in outcome.err.splitlines()[-1]
    assert steps == []


@pytest.mark.slow
def test_demo_runs_to_its_end(new_project):
    project = new_project("Dataset901_Demo")
    words = ("--cases", 2, "--test_cases", 1, "--size", 16, "-np", 1, "--trainer", "RLXAlignTrainerAdamW_1epoch")
    printed = project.run("rl_nnunet_demo", *words)
    assert "### Dice of 1 held-out hearts" in printed
    assert (project.root / "demo_output" / "overlays.png").stat().st_size > 0
    assert (project.root / "demo_output" / "dice.csv").read_text().startswith("scan,mean,")
