"""Means, the cases to show, and paired tests, against numbers counted by hand and scipy's exact distribution."""

import itertools

import numpy as np
import pandas as pd
import pytest

from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.report.comparison import compare, comparison_texts, holm, signed_rank_p
from rl_nnunet.evaluation.report.tables import case_texts, cases_to_show, summarize, summary_texts


def row(run, branch, case, structure, dice, hd95=1.0, voxels=(10, 10)):
    metrics = {"dice": dice, "nsd": dice, "hd95": hd95, "msd": hd95}
    counts = {"reference_voxels": voxels[0], "prediction_voxels": voxels[1]}
    return {"run": run, "branch": branch, "case": case, "structure": structure, **metrics, **counts}


def table_of(dice_per_run, branch="CT"):
    """Return measured rows of one structure; per run, the Dice of the cases 0, 1, ..."""
    rows = [
        row(run, branch, f"case_{index}", "heart", dice)
        for run, values in dice_per_run.items()
        for index, dice in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_summary_leaves_nan_out_and_counts_what_is_missed_and_invented():
    nan = np.nan
    measured = pd.DataFrame(
        [
            row("A", "CT", "a", "atrium", 0.8, 2.0),
            row("A", "CT", "a", "aorta", 0.0, nan, (10, 0)),
            row("A", "CT", "b", "atrium", 0.6, 4.0),
            row("A", "CT", "b", "aorta", nan, nan, (0, 0)),
            row("A", "CT", "c", "atrium", 0.0, nan, (0, 3)),
            row("A", "CT", "c", "aorta", 0.5, 1.0),
        ]
    )
    found = summarize(measured)
    assert found.index.to_list() == [("A", "CT", "atrium"), ("A", "CT", "aorta"), ("A", "CT", "mean")]
    atrium, aorta, mean = (found.loc[("A", "CT", name)] for name in ("atrium", "aorta", "mean"))
    assert atrium[["cases", "absent", "missed", "invented"]].tolist() == [3, 0, 0, 1]
    assert aorta[["cases", "absent", "missed", "invented"]].tolist() == [3, 1, 1, 0]
    assert mean[["cases", "absent", "missed", "invented"]].tolist() == [3, 1, 1, 1]
    assert aorta[["dice_n", "hd95_n"]].tolist() == [2, 1]
    assert aorta["dice_mean"] == pytest.approx(0.25)
    assert aorta["dice_sd"] == pytest.approx(0.25 * np.sqrt(2))
    assert atrium["hd95_mean"] == 3
    assert np.isnan(aorta["hd95_sd"])
    assert mean["dice_mean"] == pytest.approx(np.mean([0.4, 0.6, 0.25]))
    texts = summary_texts(found)
    assert texts["HD95 (mm)"].tolist()[:2] == ["3.00 ± 1.41", "1.00"]
    assert "run" not in texts
    assert case_texts(measured)["Dice"].tolist()[3] == "–"


def test_worst_median_and_best_of_each_branch():
    measured = pd.concat([table_of({"A": [0.5, 0.9, 0.7, 0.1, 0.6]}), table_of({"A": [0.3, 0.2]}, "MRI")])
    shown = cases_to_show(measured)
    assert shown[["branch", "case", "place"]].to_numpy().tolist() == [
        ["CT", "case_3", "worst"],
        ["CT", "case_4", "median"],
        ["CT", "case_1", "best"],
        ["MRI", "case_1", "worst"],
        ["MRI", "case_0", "best"],
    ]
    assert cases_to_show(table_of({"A": [0.5]}))["place"].tolist() == ["only"]
    assert cases_to_show(table_of({"A": [np.nan]})).empty


def exact_p(differences):
    """Return the two-sided p of the signed-rank statistic from all outcomes of the signs; no zeros, no ties."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    center = ranks.sum() / 2
    found = abs(ranks[np.array(differences) > 0].sum() - center)
    outcomes = [abs(np.dot(signs, ranks) - center) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return np.mean([outcome >= found for outcome in outcomes])


@pytest.mark.parametrize("differences", [[1, 2, 3, 4, 5, 6], [-1, 2, 3, -4, 5, 6, 7], [5, -3, 2.5, 8, 1, -0.5, 4, 9]])
def test_p_is_that_of_all_signs(differences):
    assert signed_rank_p(pd.Series(differences)) == pytest.approx(exact_p(differences))


def test_fewer_than_six_are_not_tested_and_no_difference_is_certain():
    assert np.isnan(signed_rank_p(pd.Series([1.0, 2, 3, 4, 5])))
    assert signed_rank_p(pd.Series(np.zeros(8))) == 1


def test_holm():
    # By hand: 0.01 * 4, 0.02 * 3, 0.03 * 2, which may not fall below the one before, and 0.9 * 1.
    found = holm(pd.Series([0.03, 0.01, np.nan, 0.9, 0.02]))
    assert found.tolist() == pytest.approx([0.06, 0.04, np.nan, 0.9, 0.06], nan_ok=True)
    assert holm(pd.Series([0.6, 0.7])).tolist() == [1, 1]


def test_runs_are_paired_by_case():
    dice = np.array([0.50, 0.61, 0.73, 0.42, 0.55, 0.66, 0.71])
    gain = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07])
    measured = table_of({"A": dice, "B": dice + gain}).sample(frac=1, random_state=0)
    measured = pd.concat([measured[measured["run"] == run] for run in "AB"])
    measured = pd.concat([measured, pd.DataFrame([row("B", "CT", "only in B", "heart", 0.0)])])
    found = compare(measured).query("metric == 'dice'")
    assert found["structure"].tolist() == ["heart", "mean"]
    assert found["pairs"].tolist() == [7, 7]
    assert found["difference"].tolist() == pytest.approx([0.04, 0.04])
    assert found["p"].tolist() == pytest.approx([2 / 2**7] * 2)
    assert found["p_holm"].tolist() == pytest.approx([4 / 2**7] * 2)
    assert comparison_texts(found)["difference"].tolist() == ["B − A"] * 2


def test_three_runs_are_three_pairs():
    found = compare(table_of({name: np.full(6, value) for name, value in (("A", 0.1), ("B", 0.2), ("C", 0.3))}))
    assert found.query("metric == 'nsd' and structure == 'heart'")[["one", "other"]].to_numpy().tolist() == [
        ["A", "B"],
        ["A", "C"],
        ["B", "C"],
    ]
    assert (found["p_holm"] >= found["p"]).all()


def test_runs_that_cannot_be_paired_are_refused():
    measured = table_of({"A": [0.5], "B": [0.5]})
    with pytest.raises(InputError, match="no case in common"):
        compare(measured.assign(case=["a", "b"]))
    with pytest.raises(InputError, match="references of the case case_0 differ"):
        compare(measured.assign(reference_voxels=[10, 11]))
    with pytest.raises(InputError, match="is of CT in A, of all in B"):
        compare(measured.assign(branch=["CT", "all"]))
