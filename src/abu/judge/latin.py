"""Leave-K-out by Latin squares: what becomes of queries without the images that a method named,
each (query, method) judged once a square, in equal company.

Queries go in groups. Retraining r of a group removes, for the query in place q, the top K of method
q + r, counted round: each model goes without images of all of its group's queries, each named by
another method, and as many models as there are methods judge them all.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch

from abu.diffusion.noise import permutation, stream
from abu.judge.bank import Bank, Model
from abu.judge.intervals import holm, two_sided
from abu.judge.lds import ALL
from abu.judge.ranking import rank

SQUARE = ["k", "besides", "group"]
"""What names a square: images removed for each query, whether its right images are removed in every
arm besides, and the group."""
COLUMNS = "measure kind k besides method rise low high over times p queries images p_holm".split()
"""Of ``summaries``."""
RESAMPLES = 2000
STILL = 0.9
"""Of the images removed on its behalf a method names at least so large a share now, or its arm says
nothing of it."""


def groups_of(kinds: Sequence[str], count: int, size: int) -> list[list[int]]:
    """``count`` of the queries (numbers) in groups of ``size``, each of all kinds in proportion, by
    a named draw.

    Raises ValueError for more queries than there are, and a count that leaves a group short.
    """
    of_kind = np.asarray(kinds)
    if count > len(of_kind) or count % size:
        expected = f"expected at most {len(of_kind)}, and a multiple of the group's {size}"
        raise ValueError(f"{count} queries for Latin squares; {expected}")
    places: dict[int, float] = {}
    for kind in dict.fromkeys(kinds):
        rows = np.flatnonzero(of_kind == kind)
        order = permutation(len(rows), "latin", kind)
        places |= {int(rows[i]): (p + 0.5) / len(rows) for p, i in enumerate(order)}
    chosen = sorted(places, key=lambda row: (places[row], row))[:count]
    return [chosen[start :: count // size] for start in range(count // size)]


def plan_squares(
    scores: Mapping[str, np.ndarray],
    ids: Sequence,
    groups: Sequence[Sequence[int]],
    squares: Sequence[tuple[int, bool]],
    right: np.ndarray,
) -> pd.DataFrame:
    """Rows of a plan: ``SQUARE``, ``model`` (its name), ``query`` (row), ``method``, and ``images``
    (ids) that the model goes without on behalf of that query and method, and ``also`` besides; each
    of ``squares`` for all groups, then the next.

    ``scores``: [Q, N] by method; an image of score -inf is never removed. ``squares``: (k, besides)
    of each group. ``right``: bool [Q, N]. Raises ValueError for a group larger than the number of
    methods, where one method would stand twice in a model, FloatingPointError for other scores that
    are not finite.
    """
    names, places = list(scores), np.asarray(ids)
    if odd := [len(group) for group in groups if len(group) > len(names)]:
        raise ValueError(f"a group of {odd[0]} queries; expected at most {len(names)}, the methods")
    rows = []
    for (k, besides), (g, group), r in product(squares, enumerate(groups), range(len(names))):
        model = f"latin-{g}-{k}{'-besides' * besides}-{r}"
        square = {"k": k, "besides": besides, "group": g, "model": model}
        for q, row in enumerate(group):
            method = names[(q + r) % len(names)]
            also = right[row] & besides
            values = np.where(also, -np.inf, scores[method][row])
            order = rank(np.where(values == -np.inf, np.finfo(np.float64).min, values))
            top = [i for i in order[:k] if values[i] > -np.inf]
            images = {"images": places[top].tolist(), "also": places[also].tolist()}
            rows.append({**square, "query": row, "method": method, **images})
    return pd.DataFrame(rows)


def models_of(plan: pd.DataFrame, seed: int) -> list[Model]:
    """The models of a plan, in its order."""
    union = lambda rows: tuple(sorted({id for row in (*rows.images, *rows.also) for id in row}))
    models = plan.groupby("model", sort=False)
    return [Model(seed, union(rows), label=name) for name, rows in models]


def answers(
    plan: pd.DataFrame, latin: Bank, bank: Bank, embed: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What recorded models made of the queries of their plan, by model and query: ``loss``, ``mse``
    of the picture to that of the model from which nothing was removed, and ``clip``, 1 less the
    cosine similarity of the two; and the same of that model itself, by query. ``embed``: of pixels
    [B, 3, H, W] in [0, 1].

    Raises ValueError where a model went without other images than its plan says, or the ``bank``
    lacks the model of their seed from which nothing was removed, or was not asked about a query of
    that name and latent.
    """
    seeds, place = set(latin.models.seed), {n: row for row, n in enumerate(latin.queries.name)}
    there = bank.judged(latin.queries.name, latin.latents)
    if (there < 0).any():
        lacking = latin.queries.name[there < 0].tolist()
        raise ValueError(f"{bank.folder} was not asked about {lacking[:5]} of {latin.folder}")
    whole = bank.models[bank.models.seed.isin(seeds) & (bank.models.pair < 0)]
    if len(seeds) != 1 or len(whole) != 1:
        said = f"{latin.folder} has models of seeds {sorted(seeds)}"
        raise ValueError(f"{said}; expected one, of which {bank.folder} has a whole model")
    removed = {model.name: model.removed for model in models_of(plan, 0)}
    for row, name in enumerate(latin.models.name):
        if removed.get(name) != tuple(sorted(latin.removed(row))):
            raise ValueError(f"{latin.folder}: {name} went without other images than plan.csv says")
    mean = lambda of, row: of.losses[row].mean((1, 2), dtype=np.float64)
    drawn = lambda of, name: torch.from_numpy(of.drawn(name)).float() / 255
    floor = mean(bank, whole.index[0])[there]  # of the squares' queries
    pictures = drawn(bank, whole.name.iloc[0])[there]
    embedded, rows = embed(pictures), []
    for row, name in enumerate(latin.models.name):
        names = plan[plan.model == name]["query"]
        at = [place[query] for query in names]
        now = drawn(latin, name)[at]
        mse = ((now - pictures[at]) ** 2).mean((1, 2, 3)).numpy()
        clip = 1 - torch.cosine_similarity(embed(now), embedded[at], dim=-1).numpy()
        values = {"loss": mean(latin, row)[at], "mse": mse, "clip": clip}
        rows.append(pd.DataFrame({"model": name, "query": names.to_numpy(), **values}))
    none = pd.DataFrame({"loss": floor, "mse": 0.0, "clip": 0.0}, index=list(place))
    return pd.concat(rows).set_index(["model", "query"]), none


def rises(plan: pd.DataFrame, measured: pd.DataFrame, floor: pd.DataFrame) -> pd.DataFrame:
    """The plan's rows of squares that are whole, with what a removal did to its query: each column
    of ``measured`` (indexed by model and query) less that of ``floor`` (by query), a model of the
    same seed from which nothing was removed."""
    there = plan.model.isin(measured.index.unique("model"))
    whole = plan[there.groupby([plan[name] for name in SQUARE]).transform("all")]
    at = measured.loc[pd.MultiIndex.from_frame(whole[["model", "query"]])]
    risen = at.to_numpy() - floor.loc[whole["query"]].to_numpy()
    return whole.assign(**dict(zip(measured.columns, risen.T))).reset_index(drop=True)


def still_named(
    plan: pd.DataFrame, scores: Mapping[str, np.ndarray], names: Sequence[str], ids: Sequence
) -> pd.Series:
    """By kind of square (k, besides) and method: which share of the images that a plan names on its
    behalf its scores [Q, N] of queries ``names`` name now, less than 1 where the plan was made of
    other scores. None of an arm without scores: the images known to be right."""
    place, shares = {name: row for row, name in enumerate(names)}, {}
    for square, rows in plan.groupby([*SQUARE[:2], "method"], sort=False):
        if square[2] in scores:
            of = {query: rank(scores[square[2]][place[query]]) for query in rows["query"].unique()}
            order = [np.asarray(ids)[of[query]] for query in rows["query"]]
            rest = [row[~np.isin(row, also)] for row, also in zip(order, rows.also)]
            same = sum(len(set(row[: square[0]]) & set(was)) for row, was in zip(rest, rows.images))
            shares[square] = same / rows.images.str.len().sum()
    return pd.Series(shares, dtype=float).rename_axis([*SQUARE[:2], "method"])


def arms_that_say(
    found: pd.DataFrame, shares: pd.Series, against: str
) -> tuple[pd.DataFrame, pd.Series]:
    """``found`` (``rises``) without the arms of squares whose method names a smaller share than
    ``STILL`` now of the images that were removed on its behalf, and without a square where that is
    the method with which others are compared; and those ``shares`` (``still_named``)."""
    moved = shares[shares < STILL]
    wholly = [(k, besides) for k, besides, method in moved.index if method == against]
    rows = pd.MultiIndex.from_frame(found[[*SQUARE[:2], "method"]])
    return found[~(rows.isin(moved.index) | rows.droplevel("method").isin(wholly))], moved


def summary(found: pd.DataFrame, against: str, value: str = "loss", seed: int = 0) -> pd.DataFrame:
    """Of squares of each kind (k, besides) and each method, best first: ``queries``, ``images``
    removed for each, the mean ``rise`` of ``value`` with the ends of its 95 % interval, how far it
    lies ``over`` that of the method ``against``, ``times`` as high, with ``p`` and, corrected for
    the number of comparisons (Holm), ``p_holm``.

    Queries are drawn again: what a method named for the queries of one group is removed from as
    many models, so they share no training.
    """
    parts = {}
    for square, rows in found.groupby(SQUARE[:2], sort=False):
        wide = rows.pivot(index="query", columns="method", values=value)
        n, other = len(wide), wide[against].mean()
        chosen = [stream(seed, "latin", b).integers(n, size=n) for b in range(RESAMPLES)]
        drawn = pd.DataFrame(wide.to_numpy()[chosen].mean(1), columns=wide.columns)
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        means = pd.DataFrame({"rise": wide.mean(), "low": low, "high": high})
        means["over"], means["times"] = means.rise - other, means.rise / other
        means["p"] = drawn.sub(drawn[against], axis=0).apply(lambda d: two_sided(d.to_numpy()))
        means["queries"] = n
        means["images"] = rows.images.str.len().groupby(rows.method).mean()
        parts[square] = means.sort_values("rise", ascending=False, kind="stable")
    table = pd.concat(parts, names=SQUARE[:2])
    compared = table.index.get_level_values("method") != against
    table.loc[~compared, "p"] = np.nan
    table.loc[compared, "p_holm"] = holm(table.p[compared].to_numpy())
    return table


def summaries(
    found: pd.DataFrame, kinds: Mapping[str, str], against: str, seed: int = 0
) -> pd.DataFrame:
    """``summary`` of every measure that ``found`` (``rises``) has, over all queries, and of the
    loss for each kind of them, where nothing is compared; ``kinds``: by query. No row without a
    whole square."""
    if not len(found):
        return pd.DataFrame(columns=COLUMNS)
    measures = [name for name in ("loss", "mse", "clip") if name in found]
    parts = {(name, ALL): summary(found, against, name, seed) for name in measures}
    for kind, rows in found.groupby(found["query"].map(kinds), sort=False):
        parts["loss", kind] = summary(rows, against, seed=seed).assign(p=np.nan, p_holm=np.nan)
    return pd.concat(parts, names=["measure", "kind"]).reset_index()[COLUMNS]
