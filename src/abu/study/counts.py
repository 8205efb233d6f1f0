"""What each stage does and how often, what it leaves and what it holds, counted from the parameters (``abu.study.plan.Study``).

Work that an earlier stage keeps in ``scratch/`` is counted there. What takes seconds on any data is left out.
"""

from collections import Counter
from math import ceil, prod

import numpy as np

from abu.baselines.evidence import GRADIENTS
from abu.baselines.registry import METHODS
from abu.diffusion.noise import stream
from abu.judge.removals import Removal, each_alone, leave_k_out, random_halves, right_sets
from abu.study.plan import HEADER, TABLE, Pass, Stage, Study, near

SCORE = 10
"""Bytes a row of a parquet table of scores."""


def curvature_bytes(study: Study, weights: str, curvature: str) -> int:
    """Of the cached curvature, float64: Fisher's diagonal; for ``ekfac`` eigenvectors of both sides and eigenvalues too."""
    shapes = study.sizes.shapes[weights].values()
    diagonal, sides = sum(map(prod, shapes)), sum(side**2 for shape in shapes for side in shape)
    return 8 * {"identity": 0, "diagonal": diagonal, "ekfac": 2 * diagonal + sides}[curvature]


def walked_rows(cache: dict, images: int, captions: int) -> int:
    """Rows (image, flip, caption, timestep) that a cache section asks for, every caption at every timestep."""
    return (
        images
        * (2 if cache["flips"] else 1)
        * min(cache["captions"], captions)
        * len(cache["timesteps"])
    )


def table_rows(cache: dict, images: int, captions: int) -> int:
    """Losses of a table; with ``spread`` each timestep meets one caption."""
    return walked_rows({**cache, "captions": 1} if cache["spread"] else cache, images, captions)


def losses(cache: dict, batch: int) -> Pass:
    """Pass of a loss table; rows of one image and caption share its keys and values."""
    share = (
        len(cache["timesteps"])
        * (2 if cache["flips"] else 1)
        // (cache["captions"] if cache["spread"] else 1)
    )
    return Pass("losses", batch, (min(max(share, 1), batch),))


def gradient(section: dict, cache: dict) -> Pass:
    """Pass of a query's gradient at the cached timesteps."""
    return Pass(
        "gradient",
        near(min(section["batch_size"], len(cache["timesteps"]) * section["gradient_draws"])),
        (cache["weights"],),
    )


def answers(cache: dict, captions: int, queries: int) -> Pass:
    """Pass of the store, for so many queries at once."""
    shape = (walked_rows(cache, 1, captions), 1 + cache["cotangents"], cache["store"])
    return Pass("answer", 64, (shape, queries))


def sampled(pictures: int, steps: int) -> dict[Pass, int]:
    """Pictures drawn at once, with guidance."""
    return {Pass("sample", near(2 * pictures)): 2 * pictures * steps}


def decoded(pictures: int) -> dict[Pass, int]:
    """Pictures decoded at once."""
    return {Pass("decode", near(pictures)): pictures}


def solve_gflop(n: int, queries: int, projection: int) -> float:
    """GFLOP of ``abu.baselines.kernels.kernel``: a Gram matrix in the smaller dimension, systems solved in it, a product with the queries."""
    m = min(n, projection)
    solved = (
        4 / 3 * m**3 + 2 * m**3 + 2 * m**2 * queries if n <= projection else m**3 / 3 + 2 * m**2 * n
    )
    return (2 * m * n * projection + solved + 2 * queries * n * projection) / 1e9


def solve_bytes(n: int, projection: int) -> int:
    """Held by ``abu.baselines.kernels.kernel``: square matrices of the smaller dimension, and the features where they are fewer than that."""
    m = min(n, projection)
    return 8 * (4 * m * m + (n * projection if n <= projection else 0))


def feature_work(
    methods: list[str], features: dict, images: int, queries: int, steps: int
) -> tuple[Counter, int]:
    """Passes of the gradient features that methods look at, of so many images and queries, and how many kinds of features they are;
    ``steps``: of the sampler along whose path JourneyTRAK looks."""
    needs = {name for method in methods for name in METHODS[method][1]}
    times, journey = len(features["timesteps"]), "journey gradients" in needs
    one = lambda rows: Pass("features", rows, (features["weights"], features["dimension"]))
    kinds = sum(name in needs or (journey and name == "loss gradients") for name in GRADIENTS)
    work = Counter({one(times): kinds * times * (queries + images)})
    if journey:
        work[one(steps)] += queries * steps
        work.update(sampled(queries, steps))
    return work, kinds


def components(study: Study) -> Stage:
    return Stage(
        "components",
        work=Counter({**decoded(12), Pass("panel"): 24}),
        disk=4 * study.sizes.frozen + study.sizes.clip,
    )


def prepare(study: Study) -> Stage:
    c, s = study.section("prepare"), study.sizes
    work = Counter(
        {**decoded(min(16, s.images)), Pass("panel"): min(16, s.images) + min(24, s.images)}
    )
    if not c["latents"]:
        work[Pass("prepare", 1, (s.captions, s.states))] += s.images
    return Stage("prepare", work=work, disk=study.prepared(s.images, s.captions, s.states))


def trainings(study: Study, rows: float) -> Counter:
    """Rows that are trained on."""
    c = study.section("train")
    return Counter({Pass("train", c["batch_size"]): rows, **study.read(rows)})


def train(study: Study) -> Stage:
    c, s, n = study.section("train"), study.sizes, study.trained
    grid = len(range(0, s.images, max(s.images // 24, 1))[:24])
    looks = 1 if c["source"] else ceil(c["steps"] / c["checkpoint_every"])
    watched = min(max(c["heldout"], 1), n) + s.images - n
    work = Counter(
        {
            Pass("losses", 128, (10,)): looks * watched * 10,
            **sampled(grid, 25),
            **decoded(grid),
            Pass("panel"): grid,
        }
    )
    if not c["source"]:
        work.update(
            trainings(study, c["steps"] * c["batch_size"] * n / s.images)
        )  # images held out drop out of their slots
    return Stage("train", work=work, disk=4 * s.unet, scratch=0 if c["source"] else 4 * 4 * s.unet)


def generate(study: Study, model: str = "") -> Stage:
    stage = "generate-customized" if model else "generate"
    c, s, published = study.section(stage), study.sizes, study.sizes.published.get(model, 0)
    count = study.asked(model) if model else sum(study.queries.values())
    work = Counter({Pass("panel"): 2 * count, Pass("read"): count})
    work.update(
        {Pass("prepare", 1, (1, "float16")): published}
        if published
        else {**sampled(count, c["steps"]), **decoded(count)}
    )
    pixels = 3 * study.section("prepare")["side"] ** 2
    disk = 4 * count * (prod(s.latent) + s.tokens * s.width + pixels) + 3 * HEADER + count * TABLE
    return Stage(stage, model, work, disk, held=2 * disk)


def cache(study: Study, model: str = "") -> Stage:
    stage = "cache-customized" if model else "cache"
    c, (n, captions) = study.section(stage), study.scored(model)
    rows, walked, draws = (
        table_rows(c, n, captions),
        walked_rows(c, n, captions),
        n * c["fisher_draws"],
    )
    fits = ("identity", "diagonal", "ekfac").index(c["curvature"])
    work = study.read(n * min(c["captions"], captions) * (2 if c["store"] else 1) + fits * draws)
    work[losses(c, c["batch_size"])] += rows
    if c["curvature"] != "identity" and not c["fisher"]:
        work[Pass("fisher", c["batch_size"], (c["weights"], c["curvature"]))] += draws
    if c["curvature"] == "ekfac":
        work[Pass("eigenvalues", c["batch_size"], (c["weights"],))] += draws
    if c["store"]:
        work[
            Pass(
                "store",
                c["batch_size"],
                (c["weights"], len(c["timesteps"]), c["cotangents"], c["store"]),
            )
        ] += walked
    stored = 2 * walked * (1 + c["cotangents"]) * c["store"]
    curvature, shards = curvature_bytes(study, c["weights"], c["curvature"]), ceil(n / c["shard"])
    disk = curvature + 4 * rows + stored + (2 if c["store"] else 1) * HEADER + 8 * n
    return Stage(
        stage,
        model,
        work,
        disk,
        4 * rows + stored + shards * curvature,
        3 * 4 * rows + 3 * curvature + stored / shards,
    )


def tune(study: Study) -> Stage:
    c, cached, n, captions = study.section("tune"), study.section("cache"), *study.scored()
    count, methods = (
        study.queries.get("tuning", 0),
        [name for name, (_, _, options) in METHODS.items() if options],
    )
    work: Counter = Counter()
    found, kinds = feature_work(methods, c, n, count, study.section("generate")["steps"])
    work.update(found)
    work[Pass("solve")] += (
        len(methods) * len(c["ridge"]) * sum(solve_gflop(n, count, p) for p in c["projection"])
    )
    part = {**cached, "timesteps": cached["timesteps"][:: c["every"]]}
    times, tried = len(part["timesteps"]), count * len(c["relative_norm"]) * len(c["damping"])
    work.update(study.read(n * (kinds + tried * min(cached["captions"], captions))))
    work[gradient(c, part)] += tried * times * c["gradient_draws"]
    work[losses(part, c["batch_size"])] += tried * (table_rows(part, n, captions) + count * times)
    if cached["store"]:
        work[gradient(c, cached)] += count * len(cached["timesteps"]) * c["gradient_draws"]
        work[answers(cached, captions, count)] += n * len(c["plus_damping"])
    sketches, table = 4 * n * c["dimension"], 4 * table_rows(part, n, captions)
    return Stage(
        "tune",
        work=work,
        disk=5e3,
        scratch=kinds * sketches + tried * table,
        held=max(solve_bytes(n, p) for p in c["projection"]) + 6 * table,
    )


def unlearn(study: Study, model: str = "") -> Stage:
    stage = "unlearn-customized" if model else "unlearn"
    c, cached = study.section(stage), study.section("cache-customized" if model else "cache")
    count, (n, captions) = study.asked(model) if model else study.reported, study.scored(model)
    rows, times = table_rows(cached, n, captions), len(cached["timesteps"])
    work = study.read(count * n * min(cached["captions"], captions))
    work[gradient(c, cached)] += count * c["steps"] * times * c["gradient_draws"]
    work[losses(cached, c["batch_size"])] += count * (rows + count * times) + count * times
    work.update({Pass("panel"): count * (c["top"] + 1), Pass("read"): count * c["top"]})
    curvature = curvature_bytes(study, cached["weights"], study.section("cache")["curvature"])
    disk = count * (4 * rows + (8 + SCORE) * n + TABLE) + 2 * HEADER
    return Stage(
        stage, model, work, disk, 4 * count * rows, curvature + 6 * 4 * rows + 4 * 8 * count * n
    )


def localize(study: Study) -> Stage:
    c, cached, (n, captions) = study.section("localize"), study.section("cache"), study.scored()
    part = {**cached, "timesteps": cached["timesteps"][:: c["every"]]}
    rows, times, asked = table_rows(part, n, captions), len(part["timesteps"]), 3 * len(c["pairs"])
    tasks = asked * len(c["prompts"])
    work = study.read(tasks * n * min(cached["captions"], captions))
    work[gradient(c, part)] += tasks * times * c["gradient_draws"]
    work[losses(part, c["batch_size"])] += tasks * (rows + tasks * times)
    work.update(
        {
            Pass("panel"): asked * (c["top"] + 1),
            Pass("read"): asked * c["top"],
            **decoded(len(c["pairs"])),
        }
    )
    curvature = curvature_bytes(study, cached["weights"], cached["curvature"])
    return Stage(
        "localize",
        work=work,
        disk=asked * SCORE * n + 5e5,
        scratch=4 * tasks * rows,
        held=curvature + 6 * 4 * rows + 4 * 8 * tasks * n,
    )


def influence(study: Study) -> Stage:
    c, cached, (n, captions), count = (
        study.section("influence"),
        study.section("cache"),
        study.scored(),
        study.reported,
    )
    rows, walked, times = (
        table_rows(cached, n, captions),
        walked_rows(cached, n, captions),
        len(cached["timesteps"]),
    )
    walks = c["probes"] * (len(c["probe_norms"]) + 2) + (0 if cached["store"] else 1)
    work = study.read(n * min(cached["captions"], captions) * walks)
    one, probes = losses(cached, c["batch_size"]), min(c["probes"], count)
    norms = len({*c["probe_norms"], study.section("tune")["relative_norm"][0]})
    work[gradient(c, cached)] += count * times * c["gradient_draws"]
    if cached["store"]:
        work[answers(cached, captions, count)] += n * (
            2 + sum(cached["store"] // part > 0 for part in (16, 4, 1))
        )
    else:
        work[
            Pass(
                "influence",
                c["batch_size"],
                (cached["weights"], times, cached["cotangents"], count),
            )
        ] += walked
    candidates = max(1, round(c["candidates"] * n)) * (1 + (count if cached["store"] else 0))
    work[one] += probes * norms * rows + candidates * rows // n
    work[Pass("forward mode", c["batch_size"], (cached["weights"], times))] += probes * walked
    plans, some = {(1, False), (captions, True), (captions, False)}, min(c["probe_images"], n)
    work[one] += (1 + probes) * sum(
        table_rows({**cached, "captions": k, "spread": spread}, some, captions)
        for k, spread in plans
    )
    moves = 4 * count * sum(map(prod, study.sizes.shapes[cached["weights"]].values()))
    answered, curvature = (
        4 * count * walked * (1 + cached["cotangents"]),
        curvature_bytes(study, cached["weights"], cached["curvature"]),
    )
    scratch = (
        moves
        + 4 * (probes * (norms * rows + 2 * walked) + candidates * rows // n)
        + (0 if cached["store"] else answered)
    )
    disk = SCORE * (5 if cached["store"] else 3) * count * n + 5e3
    estimates = (
        1 + cached["cotangents"] + 4 + 2
    )  # means of both terms; in float32, and in float64 where they are used
    means = estimates * 2 * (4 + 8) * count * n * (2 if cached["flips"] else 1)
    return Stage(
        "influence",
        work=work,
        disk=disk,
        scratch=scratch,
        held=curvature + 3 * moves + means + 6 * 4 * rows + 8 * 8 * count * n,
    )


def compare(study: Study, model: str = "") -> Stage:
    stage = "compare-customized" if model else "compare"
    c, tuned, n = study.section(stage), study.section("tune"), study.scored(model)[0]
    count = study.asked(model) if model else study.reported
    kinds = (
        1
        if model
        else sum(kind != "tuning" and number > 0 for kind, number in study.queries.items())
    )
    as_tuned = {name: tuned[name] for name in ("weights", "dimension", "timesteps")}
    features, settings = c["features"] or as_tuned, c["settings"] or {}
    known = not model and features == as_tuned
    steps = study.section("generate-customized" if model else "generate")["steps"]
    found, sketched = feature_work(c["methods"], features, 0 if known else n, count, steps)
    work = study.read(0 if known else sketched * n) + found
    projections = [
        settings.get(m, {}).get("projection", features["dimension"])
        for m in c["methods"]
        if METHODS[m][2]
    ]
    work[Pass("solve")] += sum(solve_gflop(n, count, projection) for projection in projections)
    looked = sum(method in c["methods"] for method in ("pixel", "clip-image", "dino"))
    columns = 1 + len(c["methods"]) + (0 if model else 5 if study.section("cache")["store"] else 3)
    work.update(
        {Pass("read"): looked * n + kinds * columns * 5, Pass("panel"): kinds * columns * 6}
    )
    sketches = 4 * n * features["dimension"]
    pixels = (
        3 * 4 * 1024 * 3 * study.section("prepare")["side"] ** 2 * min(looked, 1)
    )  # of a part of the images
    held = (
        max((solve_bytes(n, projection) for projection in projections), default=0)
        + pixels
        + 8 * columns * count * n
    )
    return Stage(
        stage, model, work, SCORE * columns * count * n, 0 if known else sketched * sketches, held
    )


def removals(study: Study) -> list[Removal]:
    """What ``retrain`` asks for. Which images a method names is not known before: they are drawn at random, one for each query is
    right, and that sets of different methods coincide is left out."""
    c, n, seed = study.section("retrain"), study.trained, study.params["common"]["seed"]
    kinds = [
        kind for kind, count in study.queries.items() if kind != "tuning" for _ in range(count)
    ]
    rows = {
        name: [q for q, kind in enumerate(kinds) if kind in group]
        for name, group in c["groups"].items()
    }
    right = np.arange(n) < sum(kind in c["signal"] for kind in kinds)
    found = [
        Removal("none", 0, 0, s, ())
        for s in dict.fromkeys([seed, *c["seeds"], *c["half_seeds"], *c["floors"]])
    ]
    rows = rows or {f"query {q}": [q] for q in range(len(kinds))}
    found += right_sets(range(n), right, c["signal_draws"], seed) if right.any() else []
    if c["methods"] and kinds:
        scores = {
            method: stream(seed, "plan", method).random((len(kinds), n)) for method in c["methods"]
        }
        found += leave_k_out(
            scores,
            range(n),
            {name: group for name, group in rows.items() if group},
            c["k"],
            c["seeds"],
            c["draws"],
            seed,
        )
        found += each_alone(
            scores[c["methods"][0]],
            range(n),
            range(len(kinds)),
            c["alone"],
            c["methods"][0],
            c["k"][0],
            seed,
        )
    return found + random_halves(range(n), c["halves"], c["half_seeds"], seed)


def retrain(study: Study) -> Stage:
    c, t, s, count, asked = (
        study.section("retrain"),
        study.section("train"),
        study.sizes,
        study.reported,
        removals(study),
    )
    models = {removal.name: study.trained - len(removal.removed) for removal in asked}
    kept = sum(models.values()) - study.trained  # the model in question is there already
    work = trainings(study, t["steps"] * t["batch_size"] * kept / s.images)
    times = len(c["timesteps"])
    work[Pass("losses", c["batch_size"], (min(times, c["batch_size"]),))] += (
        len(models) * count * times
    )
    work.update(
        {
            key: len(models) * rows
            for key, rows in sampled(count, study.section("generate")["steps"]).items()
        }
    )
    answered, weights = 4 * count * (1 + prod(s.latent)), len(models) * 4 * s.unet
    disk = len(asked) * (answered + study.trained + TABLE) + 3 * HEADER
    return Stage(
        "retrain",
        work=work,
        disk=disk,
        scratch=weights + len(models) * answered,
        held=4 * 4 * s.unet + len(models) * answered,
    )


def evaluate(study: Study) -> Stage:
    c, asked, count = study.section("evaluate"), removals(study), study.reported
    views = (
        2
        + len(study.section("retrain")["methods"])
        + any(r.method == "none" and r.seed != asked[0].seed for r in asked)
    )
    pixels = 3 * study.section("prepare")["side"] ** 2
    work = Counter(
        {
            Pass("decode", near(count)): len(asked) * count,
            Pass("panel"): min(c["shown"], count) * views,
        }
    )
    return Stage(
        "evaluate",
        work=work,
        disk=views * count * pixels + TABLE * len(asked) * count,
        held=8 * len(asked) * count * pixels,
    )


def customize(study: Study, model: str) -> Stage:
    c, s, number = study.section("customize"), study.sizes, study.sizes.exemplars[model]
    work: Counter = Counter()
    shown, steps = min(number, 8), c["sampler"]["steps"]
    work.update(
        {
            Pass("prepare", 1, (1, "float16")): number,
            Pass("read"): number,
            Pass("panel"): number + shown,
        }
    )
    work.update({**sampled(shown, steps), **decoded(shown)})
    if not c["tasks"]:
        groups = 2 if c["prior"] and c["prior_weight"] else 1
        work.update(
            {
                Pass("customize", c["batch_size"] * groups, (groups,)): c["steps"]
                * c["batch_size"]
                * groups
            }
        )
        work.update(sampled(c["prior"], steps))
    learned = sum(map(prod, s.shapes["cross-attn-kv"].values())) + s.width
    return Stage("customize", model, work, 4 * learned + study.prepared(number, 1, "float16"))


def exemplars(study: Study) -> Stage:
    c = study.section("exemplars")
    rows = 2 * sum(
        min(c["shown"], study.asked(model)) for model in study.params["common"]["models"]
    )
    return Stage(
        "exemplars",
        work=Counter({Pass("panel"): rows * (c["top"] + 1), Pass("read"): rows * c["top"]}),
        disk=7e5,
    )


def report(study: Study) -> Stage:
    panels = sum(study.queries.values()) + study.reported * (study.section("report")["top"] + 1)
    return Stage("report", work=Counter({Pass("panel"): panels, Pass("read"): panels}), disk=3e6)


def stages(study: Study) -> list[Stage]:
    """Every stage, those of customized models once for each. A model that came trained has no recipe by which to train it again:
    nothing is then retrained or evaluated. Raises KeyError for a section, parameter or method that is missing."""
    once = [
        components,
        prepare,
        train,
        generate,
        cache,
        tune,
        unlearn,
        localize,
        influence,
        compare,
    ]
    once += [] if study.params["train"]["source"] else [retrain, evaluate]
    models = [
        make(study, model)
        for make in (customize, generate, cache, unlearn, compare)
        for model in study.params["common"]["models"]
    ]
    return [make(study) for make in once] + models + [exemplars(study), report(study)]
