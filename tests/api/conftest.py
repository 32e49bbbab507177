import pytest
import tiny
from peft import LoraConfig


@pytest.fixture
def make_learner():
    """Makes a learner on a tiny model; keyword arguments are the learner's."""
    import fastslow as fs

    def make(model=None, **settings):
        given = {
            "peft_config": LoraConfig(r=4, lora_alpha=8),
            "learning_rate": 1e-2,
            "max_length": 96,
        }
        return fs.Learner(model or tiny.model(), tiny.tokenizer(), **(given | settings))

    return make
