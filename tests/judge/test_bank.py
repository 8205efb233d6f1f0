"""A bank is planned, recorded and read back; what does not belong to it is refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from abu.diffusion.noise import stream
from abu.judge.__main__ import main, read_judged
from abu.judge.bank import Model, plan_bank, read_bank, write_model

IDS, ASKED = list(range(100, 112)), 7
FACTS = {"ids": IDS, "asked": ["x"] * ASKED, "timesteps": [100, 700], "noises": 3, "of": "this"}


def arrays(model: Model, tau: np.ndarray) -> dict[str, np.ndarray]:
    """Answers of a model whose losses are those of linear scores."""
    kept = ~np.isin(IDS, model.removed)
    noise = stream("noise", model.name).standard_normal((ASKED, 2, 3)) * 0.01
    losses = 5 - tau[:, kept].sum(1)[:, None, None] + noise
    drawn = np.full((ASKED, 3, 4, 4), abs(model.pair * 2) + (model.side == "b"), np.uint8)
    return {"losses": losses.astype(np.float32), "training": np.ones(4, np.float32), "drawn": drawn}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bank of 8 pairs, the last without a complement, 4 of them under a second seed too."""
    folder, tau = tmp_path / "bank", TAU
    folder.mkdir()
    (folder / "bank.json").write_text(json.dumps(FACTS))
    names = [f"q{n}" for n in range(ASKED - 1)] + ["007"]
    table = {"query": range(ASKED), "name": names, "kind": ["plain", "style"] * 3 + ["plain"]}
    table |= {"tuning": [False] * 6 + [True], "prompt": names, "where": ["{}"] * ASKED}
    pd.DataFrame(table).to_csv(folder / "queries.csv", index=False)
    np.save(folder / "latents.npy", stream("z").standard_normal((ASKED, 1, 2, 2)))
    for model in plan_bank(IDS, {1: 8, 2: 4}, [3, 4]):
        if model.name == "seed-1-pair-007b":
            continue
        own = {"seed": model.seed, "pair": model.pair, "side": model.side, "of": "this"}
        write_model(folder, model, own, arrays(model, tau))
    return folder


TAU = stream("tau").standard_normal((ASKED, len(IDS)))


def test_plan_has_halves_and_their_complements() -> None:
    plan = plan_bank(IDS, {1: 4, 2: 2}, [3, 4])
    assert len({model.name for model in plan}) == len(plan) == 14
    halves = {(m.seed, m.pair, m.side): set(m.removed) for m in plan if m.side}
    for (seed, pair, side), removed in halves.items():
        other = halves[seed, pair, "b" if side == "a" else "a"]
        assert len(removed) == 6 and removed | other == set(IDS) and not removed & other
        assert removed == halves[1, pair, side]  # the same under each seed
    assert [m.seed for m in plan if not m.side] == [3, 4]
    assert [(m.seed, m.pair) for m in plan][:5] == [(1, 0), (1, 0), (2, 0), (2, 0), (3, -1)]
    assert [(m.seed, m.pair) for m in plan][-5:-3] == [(2, 1)] * 2
    alone = [(m.removed, m.name) for m in plan_bank(IDS, {1: 2}, [])]
    assert alone == [(m.removed, m.name) for m in plan if m.seed == 1 and m.pair < 2]


def test_a_bank_comes_back_whole_or_in_part(folder: Path) -> None:
    bank = read_bank(folder)
    assert bank.losses.shape == (25, ASKED, 2, 3)
    assert bank.kept.sum(1).tolist().count(12) == 2
    halves, differences, pairs = bank.pairs(1)
    assert pairs == list(range(7)) and halves.shape == (7, 12)  # the last lacks its complement
    expected = -(TAU[:, None] * (2 * halves - 1)).sum(-1).T
    assert np.allclose(differences, expected, atol=0.05)
    assert bank.pairs(2)[2] == [0, 1, 2, 3]
    assert bank.pairs(1, tuning=True)[2] == [2, 5] and bank.pairs(1, False)[2] == [0, 1, 3, 4, 6]
    assert bank.pair_seeds == [1, 2]
    row = bank.models.index[bank.models.name == "seed-1-pair-002a"][0]
    assert set(bank.removed(row)) == set(np.array(IDS)[~halves[2]])
    assert [bank.drawn(f"seed-1-pair-00{half}").max() for half in ("3a", "3b", "5a")] == [6, 7, 10]


def test_a_bank_that_has_only_begun_has_no_pair(folder: Path) -> None:
    for path in (folder / "models").iterdir():
        path.unlink()
    bank = read_bank(folder)
    halves, differences, pairs = bank.pairs(1)
    assert halves.shape == (0, 12) and differences.shape == (0, ASKED) and pairs == []
    assert bank.models.seconds.empty and bank.losses.shape == (0, ASKED, 2, 3)


def test_pictures_are_known_by_name_and_to_the_bit(folder: Path) -> None:
    latents = np.load(folder / "latents.npy")
    changed = latents[[3, 0, 5]].copy()
    changed[2] += 1e-6
    found = read_bank(folder).judged(["q3", "new", "q5"], changed)
    assert found.tolist() == [3, -1, -1]


def test_what_does_not_belong_is_refused_by_file(folder: Path) -> None:
    file = folder / "models/seed-1-pair-000a.npz"
    good = dict(np.load(file))

    def refused(error, match: str, **changes) -> None:
        np.savez(file, **{**good, **changes})
        with pytest.raises(error, match=f"{file.name}.*{match}"):
            read_bank(folder)

    made = json.loads(str(good["made"]))
    refused(ValueError, "is of that; .*this", made=np.array(json.dumps({**made, "of": "that"})))
    refused(ValueError, r"lacks images \[7\]", removed=np.array([7]))
    refused(ValueError, r"losses \(7, 2\)", losses=good["losses"][..., 0])
    refused(FloatingPointError, "not all finite", losses=good["losses"] * np.nan)
    refused(FloatingPointError, "not all finite", training=good["training"] * np.nan)
    np.savez(file, **{**good, "training": [np.nan, *good["training"][1:]]})
    assert np.isnan(read_bank(folder).training[0][0]), "a step whose images were all left out"
    (folder / "bank.json").unlink()
    with pytest.raises(FileNotFoundError, match="bank.json is missing"):
        read_bank(folder)


def scored(path: Path, **changes) -> pd.DataFrame:
    rows = [(f"q{q}", id, TAU[q, i]) for q in range(6) for i, id in enumerate(IDS)]
    table = pd.DataFrame(rows, columns=["query", "image_id", "score"])
    table.to_parquet(path)
    return table


def test_a_file_of_scores_is_judged_or_refused_by_entry(folder: Path, tmp_path, capsys) -> None:
    path = tmp_path / "scores.parquet"
    table = scored(path)
    bank = read_bank(folder)
    assert np.array_equal(read_judged(path, bank)[1], TAU[:6])
    table.assign(query=table["query"].str[1:].astype(int)).sample(frac=1).to_parquet(path)
    assert np.array_equal(read_judged(path, bank)[1], TAU[:6])
    main([str(path), "--bank", str(folder)])
    told = capsys.readouterr().out
    assert "over 5 pairs" in told and "all            1.000" in told and "3 queries" in told
    assert "Ceiling, by 4 pairs of another seed: 1.0" in told
    refused = {
        r"lacks 1 of 72 scores: \[\('q0', 100\)\]": table[1:],
        r"has 1 entries twice: \[\('q5', 111\)\]": pd.concat([table, table[-1:]]),
        r"1 scores that are not finite: \[\('q1', 100\)\]": table.assign(
            score=table.score.where(table.index != 12, np.inf)
        ),
        r"queries that the bank was not asked: \['new'\]": table.replace("q2", "new"),
        r"images that the model did not train on: \[7\]": table.replace(103, 7),
        "lacks the columns": table.drop(columns="score"),
        "has the methods": table.assign(method=["a", "b"] * 36),
    }
    for match, changed in refused.items():
        changed.to_parquet(path)
        with pytest.raises((KeyError, ValueError), match=match):
            read_judged(path, bank)
    table.to_csv(path.with_suffix(".csv"), index=False)
    assert np.array_equal(read_judged(path.with_suffix(".csv"), bank)[1], TAU[:6])
    named = replace(bank, queries=bank.queries.assign(name=bank.queries.name.replace("q2", "NA")))
    table.replace("q2", "NA").to_csv(path.with_suffix(".csv"), index=False)
    assert np.array_equal(read_judged(path.with_suffix(".csv"), named)[1], TAU[:6])
    both = pd.concat([table.assign(method="a"), table.assign(method="b", score=-table.score)])
    both.to_parquet(path)
    assert np.array_equal(read_judged(path, bank, "b")[1], -TAU[:6])
    with pytest.raises(KeyError, match=r"has no method 'c'; it has \['a', 'b'\]"):
        read_judged(path, bank, "c")
    table.assign(image_id=table.image_id.astype(str)).to_parquet(path)
    with pytest.raises(ValueError, match="has image_id '100'; the bank's are like 100"):
        read_judged(path, bank)
    with pytest.raises(ValueError, match="scores.xlsx is no .csv or .parquet file"):
        read_judged(tmp_path / "scores.xlsx", bank)
