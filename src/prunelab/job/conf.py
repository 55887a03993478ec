"""The folder of YAML files, and the functions that they call in interpolations."""

from pathlib import Path

from omegaconf import OmegaConf

from prunelab.store.naming import job_folder


def conf_dir() -> Path:
    """The folder of YAML files: inside an installed wheel, or beside `src` in a checkout."""
    package = Path(__file__).parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf"


def register_resolvers() -> None:
    """The functions that conf/ uses in its interpolations."""
    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
    OmegaConf.register_new_resolver("first_pruning", first_pruning, replace=True)
    OmegaConf.register_new_resolver("training", training, replace=True)


def training(pretrained: str | None, epochs: int) -> int:
    """How long a net is trained that is only to be looked at: not at all on weights from a file."""
    return epochs if pretrained in (None, "auto") else 0


def first_pruning(pretrained: str | None, epochs: int) -> str:
    """When a method that retrains prunes first: after one training, or at once on weights from a file."""
    return f"{epochs}ep" if pretrained in (None, "auto") else "0ep"
