"""A finished run that is handed on, and the command in this process."""

import shutil

import pytest
import yaml

import fastslow as fs


@pytest.fixture(scope="session")
def origin(model_folder, train_file, eval_file, tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("origin") / "run"
    fs.train(
        {
            "model": str(model_folder),
            "output_dir": str(folder),
            "data": {"train": str(train_file), "eval": str(eval_file), "max_length": 96},
            "lora": {"rank": 2, "alpha": 4.0},
            "train": {"batch_size": 8, "learning_rate": 1e-2, "max_steps": 2},
            "eval": {"num_prompts": 2, "max_new_tokens": 4, "max_pairs": 4},
            "checkpoint": {"every": 1},
        }
    )
    return folder


@pytest.fixture
def foreign(origin, tmp_path):
    """Makes a copy of the run whose config.yaml says something else."""

    def make(name="foreign", **changes):
        folder = tmp_path / name
        shutil.copytree(origin, folder)
        path = folder / "config.yaml"
        config = yaml.safe_load(path.read_text())
        for section, values in changes.items():
            merge = isinstance(values, dict) and isinstance(config[section], dict)
            config[section] = config[section] | values if merge else values
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return folder

    return make
