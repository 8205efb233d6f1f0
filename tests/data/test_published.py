"""Task lists of the published benchmark."""

import json

import pytest
from helpers import tiny_unet
from published import benchmark

from abu.data.published import distractors, exemplars, read_tasks, tasks_of


def test_task_lists_that_are_wrong(tmp_path, components) -> None:
    root = tmp_path / "abc"
    rows = benchmark(root, tiny_unet(), components)
    listed, art = root / "all_tasks.json", "bamfg-101549_0"
    tasks = read_tasks(listed, root)
    assert tasks.model.tolist() == [art] * 2 + ["imagenet-n01440764_0000"] * 2
    names = [path.name for path in exemplars(tasks_of(tasks, art), root)]
    assert names == ["0.png", "1.png", "2.png"]
    with pytest.raises(KeyError, match="has no model 'bamfg-1'"):
        tasks_of(tasks, "bamfg-1")
    with pytest.raises(ValueError, match="differ in .'train_prompt'."):
        tasks_of(tasks.assign(train_prompt=range(len(tasks))), art)
    (root / "exemplar/bamfg/101549_0/1.png").unlink()
    message = "exemplars of 'test_bamfg' number 0 are missing: .*1.png"
    with pytest.raises(FileNotFoundError, match=message):
        exemplars(tasks_of(tasks, art), root)
    with pytest.raises(IndexError, match="lists 1 cases; the task list asks for number 5"):
        exemplars(tasks_of(tasks.assign(test_case_ind=5), art), root)
    (root / "json/test_bamfg.json").unlink()
    message = "exemplars of test case 'test_bamfg' are listed in"
    with pytest.raises(FileNotFoundError, match=message):
        exemplars(tasks_of(tasks, art), root)
    (root / rows[3]["synth_image_path"]).unlink()
    with pytest.raises(FileNotFoundError, match="the picture of row 3 is missing: .*00001.png"):
        read_tasks(listed, root)
    rows[0].pop("prompt")
    listed.write_text(json.dumps(rows[:1]))
    with pytest.raises(ValueError, match="row 0 lacks .'prompt'."):
        read_tasks(listed, root)
    listed.write_text("{}")
    with pytest.raises(ValueError, match="is not a task list: expected a json list of rows"):
        read_tasks(listed, root)
    (root / "laion_subset/00000.jpg").unlink()
    arrays = root / "laion_latents.npy", root / "laion_text_embeddings.npy"
    with pytest.raises(ValueError, match="found 24 latents, 12 texts, 11 pictures"):
        distractors(*arrays, root / "laion_subset")
