"""Verdicts on claims: held, not held, not told apart, from made-up measurements of each."""

import numpy as np
import pandas as pd
import pytest

from abu.report.claims import (
    FORGOTTEN,
    ablated,
    ahead,
    claims,
    harms_more,
    others_keep,
    parts_are_told,
)

COLUMNS = ["kind", "method", "other", "difference", "low", "high", "p", "p_holm", "apart"]


def compared(*differences: float | None) -> pd.DataFrame:
    """Comparisons of "abu" with "m0", "m1", ...; told apart where not within 0.1 of nothing."""
    rows = [
        ("all", "abu", f"m{n}", d, d - 0.1, d + 0.1, 0.01, 0.02, abs(d) > 0.1)
        for n, d in enumerate(differences)
    ]
    rows.append(("style", "abu", "m0", -0.9, -1.0, -0.8, 0.001, 0.002, True))
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize(
    "differences, verdict",
    [
        ((0.3, 0.2), "held"),
        ((0.3, 0.05), "not told apart"),
        ((0.3, -0.05), "not told apart"),
        ((0.3, -0.2), "not held"),
        ((), "not asked"),
    ],
)
def test_a_method_is_ahead_if_told_apart_from_each(differences, verdict: str) -> None:
    found = ahead("claim", "abu", ["m0", "m1"], compared(*differences))
    assert found.verdict == verdict
    assert found.evidence.count(" to m") == len(differences)


@pytest.mark.parametrize(
    "share, verdict", [(0.5, "held"), (1.0, "not told apart"), (2.0, "not held")]
)
def test_others_are_left_alone_below_a_share_of_the_own_rise(share: float, verdict: str) -> None:
    own = np.linspace(0.5, 1.5, 40)
    others = own * FORGOTTEN * share * np.tile([0.9, 1.1], 20)
    found = others_keep(own, others)
    assert found.verdict == verdict and f"by {FORGOTTEN * share:.0%} of" in found.evidence
    assert others_keep(own[:1], np.array([np.nan])).verdict == "not asked"


def test_parts_by_their_p_value() -> None:
    local = {"composites": 8, "choice": 0.9, "choice_se": 0.05, "p": 0.01}
    local |= {"average_precision": 0.5, "average_precision_whole": 0.3}
    assert parts_are_told(local).verdict == "held"
    assert parts_are_told(local | {"average_precision": 0.2}).verdict == "not held"
    assert parts_are_told(local | {"p": 0.25}).verdict == "not told apart"
    assert parts_are_told(local | {"composites": 6}).verdict == "held"
    few = parts_are_told(local | {"composites": 5, "p": 0.0625})
    assert few.verdict == "not asked" and "5 composites" in few.evidence and "0.062" in few.evidence
    assert parts_are_told({"composites": 0}).verdict == "not asked"


def removed(*squares: tuple[float, float]) -> pd.DataFrame:
    """What Latin squares say of "abu" over "d-trak": how far over it, and p."""
    rows = [("loss", "all", 8, n > 0, "abu", o, 1 + o, p) for n, (o, p) in enumerate(squares)]
    rows += [
        ("mse", "all", 8, False, "abu", -1, 0, 0),
        ("loss", "style", 8, False, "abu", -1, 0, 0),
    ]
    names = "measure kind k besides method over times p_holm".split()
    return pd.DataFrame(rows, columns=names)


@pytest.mark.parametrize(
    "squares, verdict",
    [
        (((0.2, 0.01),), "held"),
        (((0.2, 0.01), (0.1, 0.3)), "not told apart"),
        (((0.2, 0.01), (-0.1, 0.01)), "not held"),
        ((), "not asked"),
    ],
)
def test_harm_is_more_if_told_apart_in_each_square(squares, verdict: str) -> None:
    found = harms_more("claim", "abu", "d-trak", removed(*squares))
    assert found.verdict == verdict and found.evidence.count("times as far") == len(squares)
    assert found.evidence.count("besides right images") == max(len(squares) - 1, 0)


def test_all_claims_in_one_table() -> None:
    rises = pd.DataFrame({"rise": [1.0, 1.0], "others_rise": [0.01, 0.02]})
    found = claims(compared(0.3), rises, {"composites": 0}, removed((-0.2, 0.01)))
    assert found.columns.tolist() == ["claim", "verdict", "evidence"] and len(found) == 10
    judged = found.verdict
    assert (judged[0], judged[2], judged[3], judged[9]) == (
        *("not asked", "not held", "held", "not asked"),
    )


def test_ablations_hold_a_claim_where_its_choice_is_told_apart_as_claimed() -> None:
    rows = {
        ("curvature", "identity"): (-0.2, True),
        ("weights", "attn"): (0.1, True),
        ("weights", "all"): (-0.1, True),
        ("weights", "cross-attn"): (None, None),
        ("curvature", "ekfac"): (0.02, False),
        ("steps", "1"): (None, None),
        ("timesteps", "10"): (0.5, True),
    }
    found = pd.DataFrame(rows, index=["difference", "apart"]).T.rename_axis(["factor", "value"])
    found = found.assign(least=-0.3, most=0.3, p_holm=0.01)
    judged = ablated(found).set_index("claim")
    assert judged.verdict.to_dict() == {
        "Fisher information matters": "held",
        "keys and values suffice": "not held",
        "one step suffices": "not asked",
        "EK-FAC is better than the diagonal": "not told apart",
    }
    assert judged.evidence["Fisher information matters"].startswith("curvature: identity -0.20 to")
    assert judged.evidence["keys and values suffice"].count("to the study") == 2
    one = found.drop(("weights", "attn")).assign(apart=True)
    assert ablated(one).verdict.tolist() == ["held", "held", "not asked", "held"]
    one.loc[("weights", "cross-attn"), ["difference", "apart"]] = 0.01, False
    assert ablated(one).verdict[1] == "not told apart"
