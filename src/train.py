"""`python -m train`: one job, or with -m a study of many."""

import hydra
from omegaconf import DictConfig

from prunelab.runs.folders import conf_dir, register_resolvers

register_resolvers()


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def main(cfg: DictConfig) -> float:
    """The test accuracy after the last epoch, a fraction."""
    from prunelab.runs.job import run  # brings torch, which composing a configuration can do without

    return run(cfg)


if __name__ == "__main__":
    main()
