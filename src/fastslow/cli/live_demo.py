"""`fastslow demo --live`: a server on this machine, voters of known taste, and the page."""

import signal
import threading
from pathlib import Path
from typing import Any

from fastslow.cli.extras import check_installed

ROWS = 64
SETTINGS = (
    "data.max_length=128", "lora.rank=8", "lora.alpha=16", "train.learning_rate=3e-3",
    "train.batch_size=16", "eval.max_new_tokens=48", f"live.rows={ROWS}", "live.max_wait_s=180",
)  # fmt: skip
ANSWER_TOKENS = 48
ASKED = 20
"""Number of prompts."""


def live_demo(to: Path, *, seed: int, port: int, stay: bool, say: Any) -> None:
    """Serve a world's base, with voters, until updates were learned, set aside and rolled back.

    Args:
        to: folder of the world and of the server.
        stay: whether the server runs on until Ctrl-C.

    Raises what the voters' thread raised.
    """
    check_installed("fastslow.serve.server", what="the live demo", extra="serve")
    check_installed("fastslow.live.run", what="the live demo", extra="serve")
    from fastslow.errors import ConfigError
    from fastslow.live.demo.person import Gone, Person
    from fastslow.live.demo.story import Story
    from fastslow.serve import Settings
    from fastslow.serve.engine.opening import EngineChoice
    from fastslow.serve.server import serve
    from fastslow.serve.supervised import threads_of_both
    from fastslow.serve.tokens import FILE
    from fastslow.serve.workers import Serving

    if (to / "live" / FILE).exists():
        raise ConfigError(f"--to: {to / 'live'} holds an earlier demo; remove it or choose another")
    world, model, prompts = _world(to, seed, say)
    (domain,) = world.domains
    recipe = [f"model={model}", *SETTINGS]
    errors = list[BaseException]()

    def ready(address: str) -> None:
        tokens = dict(line.split() for line in (to / "live" / FILE).read_text().splitlines())
        admin = Person(address, tokens["admin"])
        story = Story(admin, world, domain, seed, say)
        threading.Thread(target=acts, args=(story,), name="voters", daemon=True).start()

    def acts(story: Story) -> None:
        try:
            story.run()
        except Gone:
            return  # Stopped by Ctrl-C; a server that fails says so itself.
        except BaseException as error:
            errors.append(error)
        if stay and not errors:
            say("the page stays open: look under Learning; Ctrl-C stops")
        else:
            signal.raise_signal(signal.SIGTERM)

    settings = Settings(grace=0.5, admit_every=0.5, answer_tokens=ANSWER_TOKENS)
    answers = EngineChoice(recipe, threads=threads_of_both()[0])
    serve(
        Serving(to / "live", settings, answers, [str(prompts)]),
        host="127.0.0.1",
        port=port,
        learning=recipe,
        ready=ready,
        say=say,
    )
    if errors:
        raise errors[0]


def _world(to: Path, seed: int, say: Any) -> tuple[Any, str, Path]:
    """A world of one domain, its base, and a file of prompts."""
    from fastslow.atomic_io import write_rows
    from fastslow.bench.scenario import world_scenario
    from fastslow.streams.worlds import World

    world = World(seed=seed, num_domains=1)
    (domain,) = world.domains
    say("a tiny base model is trained on the text of a world, unless it exists already")
    scenario = world_scenario(world, to / "world", pairs=ROWS)
    prompts = to / "world" / "prompts.jsonl"
    # The shortest: longer ones are so much alike that all are held out together, or none.
    chosen = sorted(world.prompts(domain), key=len)[:ASKED]
    write_rows(prompts, [{"prompt": prompt, "domain": domain} for prompt in chosen])
    return world, str(scenario.settings["model"]), prompts
