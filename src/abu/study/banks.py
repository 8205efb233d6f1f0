"""The bank of a study: what it is made of, and recorded model by model.

``python -m abu.study.banks [HOURS]`` goes on with the one that ``retrain.bank`` names, from what
the stages up to ``generate`` left, on the engine of ``common``.
"""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch.nn.functional import adaptive_avg_pool2d

from abu import ROOT
from abu.data.files import write_array, write_json
from abu.data.images import Images
from abu.data.prepared import Prepared
from abu.data.tables import write_table
from abu.diffusion.components import Components, load_components
from abu.diffusion.device import use_device
from abu.diffusion.noise import permutation
from abu.diffusion.train import Recipe
from abu.judge.bank import Model, digest, plan_bank, write_model
from abu.judge.retrain import Questions, Retraining, answer, pictures_asked
from abu.study.batch import numbered
from abu.study.commands import command
from abu.study.engines import Engine
from abu.study.folders import read_json, read_yaml, results
from abu.study.keys import key
from abu.study.system import load_queries, sampler_of
from abu.study.tasks import Result, run_tasks

SIDE = 32  # pixels of a recorded picture
QUESTIONS = {"asked", "latents"}  # of the facts: a study may have other queries than a bank
LIBRARIES = ("torch", "diffusers", "accelerate", "numpy")


def retraining_of(trained: dict, data: Prepared, components: Components, device: str) -> Retraining:
    """What retrainings of the model that ``train`` left share; of one from elsewhere, whose recipe
    is not known, they can be asked only."""
    options = {name: value for name, value in trained.get("recipe", {}).items() if name != "seed"}
    only_asked = {"steps": 1, "batch_size": 1, "lr": 0.0, "warmup": 0}
    recipe = Recipe(trained["config"], **(options or only_asked))
    return Retraining(data, components.scheduler, recipe, trained["train_ids"], device)


@dataclass(frozen=True)
class Asked:
    """A bank as a study asks for it: the ``plan`` of models, and the ``facts`` that all of them
    have in common, of which ``of`` is the name; ``components`` decode what the models draw."""

    shared: Retraining
    components: Components
    questions: Questions
    plan: list[Model]
    facts: dict


def asked_of(options: dict, device: torch.device | str) -> tuple[dict, Asked]:
    """What ``train`` left of the study in this folder (train.json), and the bank that parameters of
    ``retrain`` ask for: ``pairs`` of halves under each of ``pair_seeds``, models of ``full_seeds``,
    asked at ``timesteps`` under ``noises`` (seeds) about the queries, ``heldin`` images of a named
    draw, and those held out."""
    components = load_components("results/components/model", device)
    data = Prepared(Path("results/prepare"), components.states)
    trained = read_json("results/train/train.json")
    shared = retraining_of(trained, data, components, str(device))
    _, queries, _ = load_queries(tuning=None)
    ids = shared.train_ids
    chosen = [ids[i] for i in permutation(len(ids), "asked")[: options["heldin"]]]
    chosen = sorted(chosen) + trained["heldout_ids"]
    at = data.rows(chosen)
    pictures = pictures_asked(queries, Images(chosen, data.latents[at], data.texts[at]))
    seed = read_json(results("generate") / "manifest.json")["seed"]
    grid = options["timesteps"], options["noises"]
    questions = Questions(pictures, queries, *grid, seed, sampler_of(), options["batch_size"])
    pairs = dict(zip(options["pair_seeds"], options["pairs"], strict=True))
    plan = plan_bank(ids, pairs, options["full_seeds"])
    facts = {"recipe": trained.get("recipe", {}), "config": trained["config"], "ids": ids}
    facts |= {"asked": list(map(str, pictures.ids)), "timesteps": grid[0], "noises": len(grid[1])}
    facts |= {"noise seeds": grid[1], "sampler": questions.sampler}
    facts["latents"] = digest(queries.latents.numpy())
    return trained, Asked(shared, components, questions, plan, facts | {"of": key(facts)})


def processor() -> str:
    """Name of the processor or accelerator."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    name = " ".join(sorted(names)) or platform.processor()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def check_bank(folder: Path, asked: Asked, queries: bool = True) -> None:
    """Raise ValueError where a recorded bank is of other images or another recipe than this study
    has, or (``queries``) was asked other questions; it names what differs. FileNotFoundError where
    there is none."""
    file = folder / "bank.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; set retrain.bank: null to train a bank")
    flat = lambda facts: facts | facts["recipe"] | facts["config"]
    recorded, here = flat(read_json(file)), flat(asked.facts)
    shown = lambda value: repr(value) if len(repr(value)) < 80 else "another"
    compared = here.keys() - {"of", "recipe", "config"} - (set() if queries else QUESTIONS)
    differing = [name for name in here if name in compared and recorded.get(name) != here[name]]
    told = [f"{n} is {shown(here[n])}, recorded was {shown(recorded.get(n))}" for n in differing]
    if told:
        raise ValueError(
            f"{file} is of another study: {'; '.join(told)}. Set retrain.bank: null to train one"
        )


def record(folder: Path, asked: Asked, engine: Engine, hours: float | None = None) -> int:
    """Go on with the bank in ``folder``; models that are recorded stay. Returns how many of the
    plan are missing in the end.

    Raises ValueError for a bank of other images, pictures or recipe.
    """
    file = folder / "bank.json"
    if file.is_file():
        check_bank(folder, asked)  # equal facts may be written otherwise: 2 or 2.0
    else:
        write_table(folder / "queries.csv", load_queries(tuning=None)[0])
        write_array(folder / "latents.npy", asked.questions.queries.latents)
        write_json(file, asked.facts)
    recorded = {path.stem for path in (folder / "models").glob("*.npz")}
    missing = {model.name: model for model in asked.plan if model.name not in recorded}
    threads = torch.get_num_threads() if engine.name == "process" else engine.cpus
    made = {"of": read_json(file)["of"], "processor": processor(), "threads": threads}
    made |= {"code": key(answer), "python": platform.python_version(), "engine": engine.name}
    made |= {name: version(name) for name in LIBRARIES}

    def keep(name: str, result: Result) -> None:
        model, tensors = missing[name], result.tensors()
        arrays = {name: tensors[name].numpy() for name in ("training", "losses")}
        small = adaptive_avg_pool2d(asked.components.decode(tensors["drawn"]), SIDE)
        arrays["drawn"] = (small * 255).round().byte().numpy()
        which = {"seed": model.seed, "pair": model.pair, "side": model.side}
        write_model(folder, model, {**made, **which, "seconds": round(result.seconds, 1)}, arrays)

    tasks = {name: (model.removed, model.seed) for name, model in missing.items()}
    shared = asked.shared, asked.questions
    done = run_tasks(answer, shared, tasks, engine, hours, progress="bank", each=keep)
    for name in done:  # finished before, and not recorded here
        if not (folder / "models" / f"{name}.npz").exists():
            keep(name, done[name])
    return len(missing) - len(done)


def opened() -> tuple[dict, Asked, Engine]:
    """Of the study in this folder: parameters of ``retrain``, its bank, the engine."""
    study = numbered(read_yaml(ROOT / "params.yaml"), ROOT)
    common, options = study["common"], study["retrain"]
    trained, bank = asked_of(options, use_device(common["device"], common["threads"]))
    if "recipe" not in trained:
        raise ValueError(f"the model is {trained['source']}: how to train it again is not known")
    named = ("engine", "ray_address", "task_cpus", "task_gpus", "device")
    return options, bank, Engine(*(common[name] for name in named))


def main(hours: str | None = None) -> None:
    options, bank, engine = opened()
    if not options["bank"]:
        raise ValueError("retrain.bank is null; expected the folder in which to record a bank")
    missing = record(Path(options["bank"]), bank, engine, hours and float(hours))
    print(f"{len(bank.plan) - missing} of {len(bank.plan)} models are recorded")


if __name__ == "__main__":
    command(main, __doc__)
