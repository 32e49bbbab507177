"""One module to a folder, or to an engine that generates with it, in the middle of a run too."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from fastslow.adapters import Modules, rank_of
from fastslow.atomic_io import new_folder
from fastslow.config import EngineConfig, Recipe
from fastslow.errors import UnreachableError
from fastslow.sampling import Engine
from fastslow.training.distributed.processes import ProcessGroup


def publish_module(modules: Modules, name: str, folder: Path) -> None:
    """Write a module as an ordinary PEFT folder, whole or not at all, in place of what is there."""
    with new_folder(folder) as draft:
        modules.save(name, draft)


@dataclass(frozen=True, slots=True)
class EnginePublisher:
    """Hands modules to an engine, by folders that it can read.

    Args:
        engine: reads the folders.
        folder: where they are written; of those that this wrote only the last one stays.
        copies: whether adapters that are on disk already are copied there.
        processes: the main one publishes.
    """

    engine: Engine
    folder: Path
    copies: bool
    processes: ProcessGroup

    def publish(self, modules: Modules, name: str, *, label: str) -> None:
        """Have the engine generate with a module as it is now."""

        def write_and_load() -> None:
            before = sorted(self.folder.glob("module-*"))
            to = self.folder / f"module-{label}"
            publish_module(modules, name, to)
            self._load(to)
            for older in before:
                if older != to:
                    shutil.rmtree(older)

        self.processes.broadcast_from_main(write_and_load)

    def publish_folder(self, adapter: Path, *, label: str) -> None:
        """Have the engine generate with an adapter that is on disk."""

        def copy_and_load() -> None:
            to = self.folder / label if self.copies else adapter
            if self.copies:
                with new_folder(to) as draft:
                    shutil.copytree(adapter, draft, dirs_exist_ok=True)
            self._load(to)

        self.processes.broadcast_from_main(copy_and_load)

    def unload(self) -> None:
        """Have the engine generate with the base; one that is gone has nothing to unload."""

        def unload() -> None:
            with suppress(UnreachableError):
                self.engine.unload()

        self.processes.broadcast_from_main(unload)

    def _load(self, folder: Path) -> None:
        # A new name each time: a reload under the same name may serve what the old one cached.
        self.engine.load(f"fastslow-{uuid4().hex[:12]}", folder, rank=rank_of(folder))


def make_publisher(
    recipe: Recipe, config: EngineConfig | None, processes: ProcessGroup
) -> EnginePublisher | None:
    """To the engine that a section of the recipe asks for; None to generate in this process."""
    if config is None:
        return None
    settings = config.model_dump(exclude={"folder"})
    run = Path(recipe.output_dir)
    return EnginePublisher(
        Engine(
            plain=recipe.data.template == "plain",
            template_settings=recipe.data.chat_template_kwargs,
            **settings,
        ),
        Path(config.folder) / run.name if config.folder else run / "served",
        copies=config.folder is not None,
        processes=processes,
    )
