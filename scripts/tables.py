"""Numbers of README.md and docs/, from what is recorded: ``python scripts/tables.py``.

Rewrites what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``; a test holds the pages to it.
"""

import json
import re
import textwrap
from collections import Counter
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from abu import ROOT
from abu.judge.bank import TUNING
from abu.judge.intervals import paired
from abu.report.claims import FORGOTTEN, OURS
from abu.report.words import scored, told

PAGES = ("README.md", *map("docs/{}.md".format, "results scenes speed customized bank".split()))
NAMES = {  # how README calls methods
    "coupling-ridge": "coupling-ridge",
    "abu-whole": "quick AbU on all weights",
    "d-trak": "D-TRAK",
    "latent-ridge": "latents by ridge",
    "das": "DAS",
    "abu": "AbU",
    "clip-text": "captions",
    "random": "random",
    "latent": "latents",
    "coupling": "coupling",
    "pixel": "pixels",
    "clip-image": "CLIP",
    "ridge-product": "our product of coupling, D-TRAK and latents by ridge",
    "bm25": "words of captions (BM25)",
    "abu-plus": "AbU+",
}
CHOSEN_ON = 20  # pairs that report, when coupling-ridge was chosen among ideas
ALIKE = ("pixel", "latent", "latent-ridge", "clip-image", "clip-text", "bm25")  # they ask no model
TOLD = list(NAMES)[:8]  # those whose scores README has
LESS = (
    "abu-linear",
    "abu-gauss-newton",
    "abu-gn",
    "gradient-dot",
    "gradient-cosine",
    "trak",
    "journey-trak",
)
NAMED = {"style": "styles", "concepts": "blocks of ten concepts"}
GROUPED = {"ridge-product", "coupling", "latent", *TOLD}  # methods that are asked of groups
STEP = "a step of a bank's model: the plain loop against"
SHORTCUTS = {  # of fast.csv and bank.csv: how the page calls it, what was asked for
    "Fisher information: time": ("Fisher of the K/V weights against torch.func, time", "4x, 8x"),
    "Fisher information: peak memory": ("the same, peak memory", "4x"),
    "loss table, shared: time": ("loss table, shared against repeated captions", "1.25x"),
    "loss table, shared, channels last: time": ("the same, channels last", "1.25x"),
    "100 queries: linear + Gauss-Newton": ("100 queries to second order against 100 passes", "40x"),
    "a new query: finite pass against the store": ("a new query from the store", "50x"),
    "a new query: finite pass against two stages, 20%": ("the same, in two stages", "6x"),
    "loss pass, shared: share of the matmul rate": (
        "loss pass, share of the float32 matrix product rate",
        "60 %, 70 %",
    ),
    "loss pass, shared, channels last: share of the matmul rate": (
        "the same, channels last",
        "60 %, 70 %",
    ),
    f"{STEP} at once": ("a bank's model, two at once, against one by the plain loop", "1.3x"),
    f"{STEP} ours": ("one alone by this package's loop", ""),
}


def wrapped(text: str, **options) -> str:
    given = {"width": 118, "break_on_hyphens": False, "break_long_words": False}
    return textwrap.fill(" ".join(text.split()), **given | options)


def table(linear: pd.DataFrame, ceiling: dict[str, float] | None) -> str:
    """Every method, the best first, over all queries and by kind, below what perfect scores would
    about reach."""
    over_all = linear[linear.kind == "all"].sort_values("lds", ascending=False)
    asked = linear[linear.kind != "all"].drop_duplicates("kind").set_index("kind").queries
    by_kind = linear.pivot(index="method", columns="kind", values="lds")[list(asked.index)]
    share = lambda row: [f"{row.lds / ceiling['all']:.0%}".replace("%", " %")] if ceiling else []
    kinds = [f"{kind} ({count})" for kind, count in asked.items()]
    of_ceiling = ["share of the ceiling"] if ceiling else []
    rows = [["method", "all (95 %)", *of_ceiling, "as it is", *kinds]]
    rows.append(["---"] * len(rows[0]))
    if ceiling:
        most = [f"{ceiling[kind]:.2f}" for kind in asked.index]
        rows.append(["*ceiling, about*", f"{ceiling['all']:.2f}", "", "", *most])
    for row in over_all.itertuples():
        each = [f"{value:.2f}" for value in by_kind.loc[row.method]]
        rows.append([row.method, scored(row), *share(row), f"{row.raw:.2f}", *each])
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in rows)


def comparisons(compared: pd.DataFrame) -> str:
    """A line for each method that was compared, with the others' difference to it."""
    lines = []
    for (kind, method), part in compared.groupby(["kind", "method"], sort=False):
        ahead, behind, open_ = told(part)
        of = "" if kind == "all" else f" on {kind} queries"
        line = f"- {method}{of}: ahead of {ahead}; behind {behind}; not told apart from {open_}."
        lines.append(wrapped(line, subsequent_indent="  "))
    return "\n".join(lines)


def named(compared: pd.DataFrame, metrics: dict) -> str:
    """What was compared, and by which pairs."""
    by = f"""Comparisons (`evaluate.comparisons`) are by {metrics["pairs_compared"]} pairs alone
        (`evaluate.unseen_from`): their list was settled with {CHOSEN_ON} others in view, some of it
        after their scores had been seen. p values are of draws of pairs and queries, corrected for
        {len(compared)} comparisons (Holm); in brackets the difference of the other to the
        method."""
    return f"{wrapped(by)}\n\n{comparisons(compared)}"


def judged(metrics: dict, linear: pd.DataFrame, planned: int) -> str:
    best = linear[linear.kind == "all"].sort_values("lds").method.iloc[-1]
    seeds = ""
    if "seed_correlation" in metrics:
        r, pairs = metrics["seed_correlation"], metrics["seed_pairs"]
        ends = f"({metrics['ceiling_low']:.2f} to {metrics['ceiling_high']:.2f})"
        seeds = f"""Two seeds' differences of the same {pairs} pairs correlate at {r:.2f}, so that
            perfect scores would reach about {max(r, 0) ** 0.5:.2f} {ends}: the *ceiling*."""
    return wrapped(
        f"""Over **{metrics["queries"]} queries and {metrics["pairs"]} pairs of halves** on which
        no option was chosen (of the {planned} that are planned so), {best} has the highest mean.
        {seeds} Scores are sharpened as tuning queries chose
        ([why](bank.md#scoring-against-it)); *as it is*: without."""
    )


def led(rows: pd.DataFrame) -> str:
    """From which other methods one is told apart, ahead."""
    sure = rows.apart.astype(bool) & (rows.difference > 0)
    rest = [NAMES.get(other, other) for other in rows[~sure].other]
    return f"every other method{' but ' * bool(rest)}{', '.join(rest)}"


def late(table: pd.DataFrame) -> str:
    """Comparisons that were named late, by all pairs and by those that nobody had looked at."""
    counts = sorted(table.pairs.unique(), reverse=True)
    rows = [["method", "queries", "other", *[f"{n} pairs (95 %), p (Holm)" for n in counts]]]
    rows.append(["---"] * len(rows[0]))
    said = lambda row: (
        f"{row.difference:+.2f} ({row.low:+.2f} to {row.high:+.2f}), {row.p_holm:.2g}"
    )
    for names, each in table.groupby(["method", "kind", "other"], sort=False):
        by = each.set_index("pairs")
        rows.append([names[0], names[1], names[2], *[said(by.loc[n]) for n in counts]])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def verdict(
    metrics: dict,
    compared: pd.DataFrame,
    claims: pd.DataFrame,
    ablated: pd.DataFrame,
    elsewhere: dict,
    removed: pd.DataFrame,
    late: pd.DataFrame,
) -> str:
    """README's: how AbU does, who leads, what did not hold; ``elsewhere`` are metrics of the
    scenes, ``removed`` says what images without which models were trained did (``latin``), ``late``
    holds comparisons that were named late."""
    lds = pd.DataFrame(metrics["lds"]).T.rename(columns={"mean": "lds"})
    score = lambda method: f"{NAMES[method]} {scored(lds.loc[method])}"
    named = lambda row: score(row.other) if row.other in TOLD else NAMES.get(row.other, row.other)
    before, behind, beside = told(compared.query("kind == 'all' and method == 'abu'"), named)
    best = max(metrics["seed_correlation"], 0) ** 0.5
    share = lambda method: f"{lds.lds[method] / best:.0%}".replace("%", " %")
    top, every, unseen = lds.lds.idxmax(), metrics["pairs"], metrics["pairs_compared"]
    others = late[(late.kind == "all") & (late.method == top)]
    of_abu = late[(late.method == "abu") & (late.pairs == every)]
    also = " and ".join(NAMES[o] for o in of_abu[of_abu.apart & (of_abu.difference < 0)].other)
    harm = removed.query(f"measure == 'loss' and kind == 'all' and method == '{top}'")
    harms = " and ".join(
        f"{row.times:.2f} times as far{', all right images gone,' * row.besides} "
        f"(p = {row.p_holm:.2g})"
        for row in harm.itertuples()
    )
    open_ = "" if (harm.p_holm < 0.05).all() else ", not told apart"
    asked = " and ".join(f"{count}" for count in harm["queries"])
    told_by = ablated[~ablated.claim.str.contains("EK-FAC")]
    paper = pd.concat([claims[~claims.claim.str.startswith("ours")], told_by])
    bar = f" (our bar, {FORGOTTEN:.0%} of its own rise; the paper has none)".replace("%", " %")
    said = paper.claim + paper.claim.str.contains("others alone").map({True: bar, False: ""})
    which = lambda verdict: "; ".join(said[paper.verdict == verdict]) or "none"
    count = Counter(paper.verdict)
    unasked = f", {count['not asked']} not asked" if count["not asked"] else ""
    alike = max(ALIKE, key=lambda method: elsewhere["lds"].get(method, {"mean": -1})["mean"])
    there = lambda method: scored(pd.Series(elsewhere["lds"][method]).rename({"mean": "lds"}))
    parts = [
        f"""**AbU works{"" if behind == "none" else ", and others work better"}.** Its step
        doubles the query's loss, its damping was tuned: {score("abu")},
        {share("abu")} of what can be reached: ahead of {before}; behind {behind}; not told apart
        from {beside}{f" (by all {every} pairs it is behind {also})" * bool(also)}.""",
        f"""**{NAMES[top][0].upper()}{NAMES[top][1:]} leads**: {scored(lds.loc[top])},
        {share(top)} of what can be reached (our bar: 90 %). By all {every} pairs it is told apart
        from {led(others[others.pairs == every])}; by the {unseen} from
        {led(others[others.pairs == unseen])} (asked for late, when all had been seen). In models
        without the {harm.k.iloc[0]} images that it names for each of some queries, a query's loss
        rises {harms} as without D-TRAK's{open_}; {asked} queries, one seed.""",
        f"""**Of {len(paper)} claims of the paper {count["held"] or "none"} held,
        {count["not held"]} did not, {count["not told apart"]} are not told apart{unasked}**
        ([report](results/report.ipynb), [ablations](results/ablations/table.md)). Held:
        {which("held")}. Not: {which("not held")}. And **the data is easy**: latents by ridge ask no
        model, and a concept's pictures look alike. Where they do not (preset `scenes`;
        {elsewhere["pairs"]} pairs tell few apart): {OURS} {there(OURS)}, {NAMES[alike]}
        {there(alike)}, AbU {there("abu")}.""",
    ]
    over = f"""Over {metrics["queries"]} queries and {every} pairs of halves on which no option was
        chosen, of {best:.2f} that perfect scores would about reach; {len(compared)} comparisons
        (Holm) by the {unseen} pairs that were unseen when they were named:"""
    lines = (wrapped(f"- {part}", width=120, subsequent_indent="  ") for part in parts)
    return "\n".join([wrapped(over, width=120), "", *lines])


def uncaptioned(table: pd.DataFrame) -> str:
    """What the caption is worth under which images are asked about a query without a prompt."""
    rows = table.set_index("asked under")
    beside = lambda row: f"{row['beside captions']:+.2f} ({row.least:+.2f} to {row.most:+.2f})"
    none, mixed = rows.loc["none"], rows.loc["mixed"]
    return wrapped(
        f"""Of the {rows.queries.iloc[0]} queries without a prompt AbU has
        {scored(rows.loc["captions"])} where images are asked under their captions, as in the study,
        {scored(none)} where they are asked under none, {beside(none)} beside that, and
        {scored(mixed)} where both count by their share of training, nine to one,
        {beside(mixed)}; {rows.pairs.iloc[0]} pairs."""
    )


def given(worth: pd.DataFrame) -> str:
    """What each method was given: settings that were tried, and what it costs."""
    rows = [["method", "settings tried", "seconds once", "seconds a query", "MB kept"], ["---"] * 5]
    for row in worth.dropna(subset="settings").sort_values("lds", ascending=False).itertuples():
        once = "" if pd.isna(row.seconds_once) else f"{row.seconds_once:.0f}"
        kept = "" if pd.isna(row.bytes) else f"{row.bytes / 1e6:.1f}"
        rows.append([row.method, f"{row.settings:.0f}", once, f"{row.seconds:.2f}", kept])
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in rows)


def bank(folder: Path, planned: int) -> str:
    """How much of the bank is recorded."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    names = {file.stem for file in files if file.suffix == ".npz"}
    pairs = Counter(
        name.split("-pair-")[0]
        for name in names
        if name.endswith("a") and f"{name.removesuffix('a')}b" in names
    )
    whole = sum("pair" not in name for name in names)
    size = sum(file.stat().st_size for file in files) / 1e6
    return wrapped(
        f"""**Recorded so far: {len(names)} of {planned} models**, {pairs["seed-1"]} pairs under
        seed 1, {pairs["seed-2"]} of them under seed 2, {whole} whole models; {size:.1f} MB. A
        partial bank is a valid one: everything uses the whole pairs that are there, and says how
        many."""
    )


def regressed(table: pd.DataFrame, ceiling: float | None) -> str:
    """What retrained models say themselves, and how many would be worth a method."""
    table, models = table.set_index(["scores", "models"]), table.models.max()
    alone, method, both = (
        table.loc[name, models]
        for name in ("retrained models alone", "coupling", "coupling and they")
    )
    far = ""
    if ceiling:
        share = lambda row: (row.lds / ceiling) ** 2
        need = models * (1 / share(alone) - 1) * share(method) / (1 - share(method))
        far = f"""If it grows as the correlation with a noisy mean does, m / (m + c) of the ceiling
            squared, some {round(need, -2):,.0f} models would say as much as coupling does: an
            extrapolation, by its last point."""
    return wrapped(
        f"""Scores by ridge regression on {models} retrained halves themselves foretell the other
        pairs at {scored(alone)} (ranges over splits of the pairs), coupling at {scored(method)},
        both joined at {scored(both)}. {far}"""
    )


def ideas(table: pd.DataFrame, confirmed: pd.DataFrame | None) -> str:
    """Ideas beside the methods, each against the method that it would better; and what later pairs
    say of the one that became a method."""
    rows = [["idea", "all (95 %)", "against", "difference (95 %)", "p (Holm)"], ["---"] * 5]
    for row in table.sort_values("lds", ascending=False).itertuples():
        between = f"{row.difference:+.2f} ({row.least:+.2f} to {row.most:+.2f})"
        rows.append([row.idea, scored(row), row.other, between, f"{row.p_holm:.2g}"])
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    if confirmed is None:
        return lines
    each = "; ".join(
        f"{row.other} by {row.difference:+.2f} ({row.low:+.2f} to {row.high:+.2f}, "
        f"p = {row.p_holm:.2g}: {'told apart' if row.apart else 'not told apart'})"
        for row in confirmed.itertuples()
    )
    later = f"""On the {confirmed.pairs.iloc[0]} pairs that nobody had looked at when it was chosen,
        coupling-ridge differs from {each}."""
    return f"{lines}\n\n{wrapped(later)}"


def draws(table: pd.DataFrame, drawn: pd.DataFrame) -> str:
    """Gradient methods by how many timesteps they look at, and the comparison that was named."""
    names = table.index.str.rpartition(", ")
    wide = table.assign(name=names.get_level_values(0), at=names.get_level_values(2).astype(int))
    counts = sorted(wide["at"].unique())
    rows = [["method", *[f"{count} timesteps" for count in counts]], ["---"] * (1 + len(counts))]
    for name, part in wide.groupby("name", sort=False):
        rows.append([name, *[scored(row) for row in part.set_index("at").loc[counts].itertuples()]])
    said = [
        f"""on the {row.pairs} pairs {which}, {row.method.partition(",")[0]} differs from D-TRAK by
        {row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f}, p = {row.p:.2g})"""
        for which, row in zip(("that report", "of them alone that came later"), drawn.itertuples())
    ]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    return f"{lines}\n\n{wrapped('With 20 timesteps, ' + '; '.join(said) + '.')}"


def seeds(table: pd.DataFrame, named: pd.DataFrame) -> str:
    """Methods by how many models, of other seeds, they ask, and the comparisons that were named."""
    names = table.index.str.rpartition(", ")
    wide = table.assign(name=names.get_level_values(0), at=names.get_level_values(2).astype(int))
    counts = sorted(wide["at"].unique())
    heads = [f"{count} model{'s' if count > 1 else ''}" for count in counts]
    rows = [["method", *heads, f"{counts[-1]} less one"], ["---"] * (2 + len(counts))]
    for name, part in wide.groupby("name", sort=False):
        by = part.set_index("at").loc[counts]
        last = by.iloc[-1]
        more = f"{last.more:+.2f} ({last.least:+.2f} to {last.most:+.2f})"
        rows.append([name, *[scored(row) for row in by.itertuples()], more])
    said = [
        f"""{row.method} beside {row.other} {row.difference:+.3f} ({row.low:+.3f} to
        {row.high:+.3f}, p = {row.p_holm:.2g})"""
        for row in named.itertuples()
    ]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    told = f"Named before, over {named.pairs.iloc[0]} pairs (Holm): {'; '.join(said)}."
    return f"{lines}\n\n{wrapped(told)}"


def groups(table: pd.DataFrame) -> str:
    """What is said of images, by concepts and by styles as wholes, and within concepts."""
    shown = {
        "images": ("image", "all"),
        "whole concepts": ("concept", "all"),
        "within concepts": ("within concept", "all"),
        "whole styles": ("style", "all"),
        "whole styles, style queries": ("style", "style"),
    }
    by = table.set_index(["method", "scores", "kind"])
    rows = [["method", *shown], ["---"] * (1 + len(shown))]
    best = by.xs(("image", "all"), level=("scores", "kind")).lds.sort_values(ascending=False)
    for method in [name for name in best.index if name in GROUPED]:
        rows.append([method, *[scored(by.loc[(method, *at)]) for at in shown.values()]])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def left_out(table: pd.DataFrame) -> str:
    """What methods say of groups without which models were trained, best first by the first kind:
    the rank correlation with what became of queries, and how often the first is right."""
    kinds, rows = table.groupby("groups", sort=False), [["method"]]
    for kind, part in kinds:
        first = part.iloc[0]
        of = f"{first.of} {NAMED.get(kind, kind)}"
        rows[0] += [f"{of}: correlation (95 %)", f"{of}: first right (95 %)"]
    rows.append(["---"] * len(rows[0]))
    said = table[table.scores != "as they are"].set_index(["groups", "method"])
    between = lambda row, name: (
        f"{row[name]:.2f} ({row[f'{name} low']:.2f} to {row[f'{name} high']:.2f})"
    )
    order = said.xs(table.groups.iloc[0]).sort_values("agreement", ascending=False).index
    for method in [name for name in order if name in {*GROUPED, "the other seed's rises"}]:
        cells = [method]
        for kind, _ in kinds:
            there = (kind, method) in said.index
            row = said.loc[(kind, method)] if there else None
            cells += [between(row, n) if there else "" for n in ("agreement", "first")]
        rows.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in rows)


def latin(table: pd.DataFrame) -> str:
    """What removing the images that each method named did to queries, by Latin squares."""
    parts = []
    for (k, besides), rows in table.groupby(["k", "besides"], sort=False):
        by = {at: part.set_index("method") for at, part in rows.groupby(["measure", "kind"])}
        over_all, kinds = by["loss", "all"], list(dict.fromkeys(rows.kind))[1:]
        asked = [by["loss", kind]["queries"].iloc[0] for kind in kinds]
        rise = lambda measure, kind, name, by=by: f"{by[measure, kind].rise[name]:.3f}"
        cells = [["method", "images", "ΔL (95 %)", "times D-TRAK's", "p (Holm)", "ΔG, MSE"]]
        cells[0] += ["ΔG, CLIP", *[f"{kind} ({count})" for kind, count in zip(kinds, asked)]]
        cells.append(["---"] * len(cells[0]))
        for name, row in over_all.iterrows():
            p = "" if pd.isna(row.p_holm) else f"{row.p_holm:.2g}"
            told = [name, f"{row.images:.1f}", f"{row.rise:.3f} ({row.low:.3f} to {row.high:.3f})"]
            told += [f"{row.times:.2f}", p, *[rise(what, "all", name) for what in ("mse", "clip")]]
            cells.append([*told, *[rise("loss", kind, name) for kind in kinds]])
        lines = "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in cells)
        also = ", right images gone in every arm" if besides else ""
        parts.append(f"K = {k}{also}, {over_all['queries'].iloc[0]} queries:\n\n{lines}")
    return "\n\n".join(parts)


def scenes(folder: Path, objects: pd.DataFrame, seen: pd.DataFrame) -> str:
    """Where neither pixels nor captions decide: what the model draws, what the bank says, and which
    images made which part."""
    metrics = json.loads((folder / "metrics.json").read_text())
    parts = json.loads((folder / "localize.json").read_text())
    read = lambda name: pd.read_csv(folder / f"{name}.csv")
    linear, compared, localized = map(read, ("lds", "comparisons", "localized"))
    hits = objects.set_index(["pictures", "things"])
    hit = lambda *at: scored(hits.loc[at].rename({"mean": "lds"}))
    r, pairs = metrics["seed_correlation"], metrics["seed_pairs"]
    ceiling = max(r, 0) ** 0.5
    over_all = linear[linear.kind == "all"].set_index("method").lds
    best, alike = over_all.idxmax(), over_all[over_all.index.isin(ALIKE)].idxmax()
    share = lambda value: f"{100 * value:.0f} %"
    drawn = f"""Of two things that were asked for, {hit("drawn by the model", 2)} stand where they
        should, of one alone {hit("drawn by the model", 1)}; of the scenes themselves, encoded and
        decoded, {hit("scenes", 2)} and {hit("scenes", 1)} are told right
        ([objects.csv](../benchmarks/objects.csv))."""
    judged = f"""Over **{metrics["queries"]} queries and {metrics["pairs"]} pairs of halves** {best}
        has the highest mean, {over_all[best] / over_all[alike]:.1f} times that of the best of what
        asks no model ({alike}). Two seeds' differences of {pairs} pairs correlate at {r:.2f}:
        perfect scores would reach about {ceiling:.2f}, which three pairs hardly bound."""
    names = localized.composite.str.split(" | ", regex=False).map(sorted).map(" | ".join)
    each = localized.groupby(names)[
        ["choice", "average precision", "average precision, whole"]
    ].mean()
    p = paired(each["average precision"], each["average precision, whole"])
    choice = f"""Of {parts["composites"]} pictures of two, the boxed part's images stand above the
        other part's in {share(parts["choice"])} of pairs (standard error
        {share(each.choice.sem())} over the {len(each)} pairs of names, each asked in both orders;
        50 % is no choice); their average precision is {parts["average_precision"]:.2f} with the box
        and {parts["average_precision_whole"]:.2f} without (p = {p:.2g}). Of the
        {seen.parts[True]} parts that stand there as asked it is {share(seen.choice[True])}, of the
        {seen.parts[False]} that do not {share(seen.choice[False])} (standard errors over parts
        {share(seen.se[True])} and {share(seen.se[False])};
        [parts.csv](../benchmarks/parts.csv))."""
    cells = [table(linear, None), comparisons(compared)]
    return "\n\n".join([wrapped(drawn), wrapped(judged), *cells, wrapped(choice)])


def fast(table: pd.DataFrame) -> str:
    """What shortcuts save on the embedded U-Net and on the paper's, with ranges over rounds, and
    what was asked for."""
    measured = table.set_index(["what", "model"])

    def cell(what: str, model: str) -> str:
        if (what, model) not in measured.index:
            return ""
        row = measured.loc[(what, model)]
        number = "{:.0%}" if "share of" in what else "{:.2f}x"
        spread = " ({} to {})".format(*map(number.format, (row.lowest, row.highest)))
        return f"{number.format(row.ratio)}{spread * int(row.rounds > 1)}".replace("%", " %")

    rows = [["shortcut", "embedded U-Net", "the paper's U-Net, random weights", "bar"], ["---"] * 4]
    for what, (name, bar) in SHORTCUTS.items():
        cells = [cell(what, "embedded"), cell(what, "paper")]
        rows.append([name, *cells, bar])
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in rows)


def floors(table: pd.DataFrame) -> str:
    """What two of the shortcuts cost in plain forward passes, part by part, and the most that they
    could save."""
    by = table.set_index(["what", "part", "model"])
    names = {"embedded": "embedded U-Net", "paper": "the paper's"}
    models = [model for model in names if model in table.model.to_numpy()]
    heads = [names[model] for model in models]
    rows = [["in plain forward passes of the same rows", *heads], ["---"] * (1 + len(models))]
    asked = {
        "Fisher": ["forward, backward", "whole", "reference", "most"],
        "100 queries": ["forward, backward of loss and cotangents", "whole", "most"],
    }
    for what, parts in asked.items():
        for part in parts:
            said = {"reference": "torch.func", "most": "the most that can be saved"}.get(part, part)
            cells = [by.loc[what, part, model] for model in models]
            written = [f"{row.ratio:.1f} ({row.lowest:.1f} to {row.highest:.1f})" for row in cells]
            rows.append([f"{what}: {said}", *written])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def eight(table: pd.DataFrame) -> str:
    """Eight customized models: how well each method finds their exemplars."""
    by = {name: part.set_index("method") for name, part in table.groupby("name")}
    rows = [["method", "mAP, all (95 %)", "objects", "styles", "recall at 10", "p"], ["---"] * 6]
    for row in by["all"].itertuples():
        means = [f"{by[kind].mAP[row.Index]:.3f}" for kind in ("object", "style")]
        p = "" if pd.isna(row.p) else f"{row.p:.2g}"
        whole = f"{row.mAP:.3f} ({row.low:.3f} to {row.high:.3f})"
        rows.append([row.Index, whole, *means, f"{row.recall:.2f}", p])
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in rows)


def parts(root: Path = ROOT) -> dict[str, str]:
    """What the marks of the pages enclose, by their name."""
    plan = YAML(typ="safe").load(root / "params.yaml")["retrain"]
    folder = root / "results/evaluate"
    metrics = json.loads((folder / "metrics.json").read_text())
    linear, compared = (pd.read_csv(folder / f"{name}.csv") for name in ("lds", "comparisons"))
    removed = pd.read_csv(folder / "latin.csv")
    claims = pd.read_csv(root / "results/report/claims.csv")
    ablated = pd.read_csv(root / "results/ablations/claims.csv")
    retrained = pd.read_csv(root / "benchmarks/regressed.csv")
    beside = pd.read_csv(root / "benchmarks/late.csv")
    later = root / "benchmarks/confirmed.csv"
    r = metrics.get("seed_correlation")
    ceiling = max(r, 0) ** 0.5 if r is not None else None
    planned = plan["pairs"][0] - plan["pairs"][0] // TUNING  # the others are for tuning
    return {
        "judged": judged(metrics, linear, planned),
        "lds": table(linear, metrics.get("ceiling")),
        "comparisons": named(compared, metrics),
        "ideas": ideas(
            pd.read_csv(root / "benchmarks/ideas.csv"),
            pd.read_csv(later) if later.is_file() else None,
        ),
        "draws": draws(
            pd.read_csv(root / "benchmarks/draws.csv", index_col=0),
            pd.read_csv(root / "benchmarks/drawn.csv"),
        ),
        "seeds": seeds(
            pd.read_csv(root / "benchmarks/seeds.csv", index_col=0),
            pd.read_csv(root / "benchmarks/seeds-named.csv"),
        ),
        "ablations": (root / "results/ablations/table.md").read_text().strip(),
        "groups": groups(pd.read_csv(root / "benchmarks/groups.csv")),
        "left_out": left_out(pd.read_csv(root / "benchmarks/left-out.csv")),
        "latin": latin(removed),
        "scenes": scenes(
            root / "results/scenes",
            pd.read_csv(root / "benchmarks/objects.csv"),
            pd.read_csv(root / "benchmarks/parts.csv", index_col="there"),
        ),
        "fast": fast(
            pd.concat(
                pd.read_csv(root / f"benchmarks/{name}.csv").query("device == 'cpu'")
                for name in ("fast", "bank")
            )
        ),
        "floors": floors(pd.read_csv(root / "benchmarks/floors.csv").query("device == 'cpu'")),
        "eight": eight(pd.read_csv(root / "results/eight/summary.csv")),
        "regressed": regressed(retrained, ceiling),
        "verdict": verdict(
            metrics,
            compared,
            claims,
            ablated,
            json.loads((root / "results/scenes/metrics.json").read_text()),
            removed,
            beside,
        ),
        "given": given(pd.read_csv(root / "benchmarks/worth.csv")),
        "late": late(beside[~beside.other.isin(LESS)]),
        "uncaptioned": uncaptioned(pd.read_csv(root / "benchmarks/uncaptioned.csv")),
        "bank": bank(root / plan["bank"], 2 * sum(plan["pairs"]) + len(plan["full_seeds"])),
    }


def filled(page: str, values: dict[str, str]) -> str:
    """A page with its marks' contents renewed."""
    for name, value in values.items():
        marks = re.compile(f"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        page = marks.sub(lambda found, value=value: f"{found[1]}{value}{found[2]}", page)
    return page


def main() -> None:
    values = parts()
    for page in PAGES:
        (ROOT / page).write_text(filled((ROOT / page).read_text(), values))


if __name__ == "__main__":
    main()
