"""A study that has run, loaded once to be asked.

In a notebook::

    from abu.ask.load import load_asker
    asker = load_asker()
    asker.ask(["picture.png"], ["skull with cowboy hat"])[0].table
"""

from contextlib import chdir
from pathlib import Path

from abu import ROOT
from abu.ask.asker import Asker
from abu.ask.standing import Standing
from abu.core.unlearn import Newton
from abu.data.queries import Queries
from abu.diffusion.device import use_device
from abu.study.batch import numbered
from abu.study.caching import Cached, load_cached, load_store, newton_chosen
from abu.study.folders import BASE, read_yaml
from abu.study.inputs import check_inputs
from abu.study.system import System, load_queries, load_system

STEP = ("curvature", "damping", "steps", "alpha", "n", "relative_norm", "rise")


def load_asker(system: str = BASE, root: Path | str = ROOT) -> Asker:
    """The base system, or a customized one by name, of a study that has run in ``root``, with the
    seed, device, precision and draws of its ``params.yaml``.

    Raises KeyError for another name, ValueError for a system that is not asked, FileNotFoundError
    for what the stage ``unlearn`` would miss too, and as ``load_system`` and ``load_cached`` where
    files of the study do not belong together.
    """
    root = Path(root).resolve()
    if not (root / "params.yaml").is_file():
        raise FileNotFoundError(f"{root / 'params.yaml'} is missing; expected a study's folder")
    study = numbered(read_yaml(root / "params.yaml"), root)
    if system not in (systems := study["systems"]):
        raise KeyError(f"no system {system!r} in params.yaml; expected one of {sorted(systems)}")
    if systems[system]["kind"] == "reference":
        raise ValueError(f"system {system!r} has no pictures of its own; ask --system NAME")
    check_inputs("unlearn", system, root)
    common, options = study["common"], study["influence"]
    changes = study["changes"][study["systems"][system]["kind"]].get("unlearn")
    unlearned = study["unlearn"] | (changes or {})
    with chdir(root):
        device = use_device(common["device"], common["threads"])
        loaded = load_system(system, device)
        speed = {name: common[name] for name in ("precision", "compile", "channels_last")}
        cached = load_cached(loaded, common["seed"], options["batch_size"], device, speed)
        newton = newton_of(unlearned, cached)
        standing = standing_of(loaded, cached)
        store = basis = None
        if cached.manifest["store"]:
            basis, store = load_store(cached)
    draws, flips = max(2, options["gradient_draws"]), unlearned["flips_reduce"]
    return Asker(root, loaded, cached, newton, draws, flips, standing, store, basis)


def newton_of(unlearned: dict, cached: Cached) -> Newton:
    """How pictures are unlearned. ``unlearned``: parameters of that stage.

    With a store, by the step that ``tune`` chose for AbU+: of all that the store answers it was
    judged best, and its length does not depend on a rise of the loss, which a picture from
    elsewhere may not reach. Without one, as in the stage ``unlearn``.
    """
    options = {name: unlearned[name] for name in STEP} | {"draws": unlearned["gradient_draws"]}
    options["n"] = options["n"] or len(cached.manifest["ids"])
    if cached.manifest["store"]:
        options = {"curvature": "ekfac", "draws": options["draws"]}
    method = "abu-plus" if options["curvature"] == "ekfac" else "abu"
    return Newton(**newton_chosen(options, method))


def standing_of(system: System, cached: Cached) -> Standing:
    """Bounds of the losses of a system's own pictures, first of those that are never reported."""
    table, queries, _ = load_queries(system.name, tuning=None)
    rows = sorted(range(len(table)), key=lambda q: not table.tuning[q])
    names = [queries.names[q] for q in rows]
    ordered = Queries(names, queries.latents[rows], queries.texts[rows])
    prompted = [bool(table.prompt[q]) for q in rows]
    return Standing(cached.attribution, ordered, prompted, system.empty)
