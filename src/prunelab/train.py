"""The commands `python -m train`, `prunelab-train` and `python -m prunelab.train`: one job, or with -m a study."""

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prunelab.core.text.printable import print_any_sign, printable
from prunelab.job.allocator import keep_freed_memory
from prunelab.job.threads import yield_cores
from prunelab.store.lock import BUSY, Busy
from prunelab.store.signals import Interrupted, end_quietly, start_parent_watchdog, stoppable

if TYPE_CHECKING:
    from omegaconf import DictConfig

FULL_ERROR = "HYDRA_FULL_ERROR"
FLAGS = ("-m", "--multirun", "--resolve")
VALUED = ("-c", "--cfg", "-p", "--package", "-cn", "--config-name", "-cd", "--config-dir", "-cp", "--config-path")


def main() -> None:
    """Composes the configuration from the command line, and runs it."""
    print_any_sign()
    end_quietly()  # before the imports, which take seconds
    start_parent_watchdog()
    yield_cores()
    keep_freed_memory()
    import hydra

    from prunelab.job.command.help import help_text, is_asked
    from prunelab.job.command.lazy_help import accept_lazy_help
    from prunelab.job.command.mistakes import end_command, fail_in_silence
    from prunelab.job.command.unread import refuse_dashes, refuse_list, refuse_null
    from prunelab.job.conf import conf_dir, register_resolvers, share_structured_configs

    try:
        if is_asked(sys.argv[1:]):
            with suppress(BrokenPipeError):  # as of `| head`
                print(help_text(conf_dir(), sys.argv[1:]), flush=True)
            return
        refuse_null(sys.argv[1:], conf_dir())
        refuse_list(sys.argv[1:])
        refuse_dashes(sys.argv[1:], conf_dir())
    except ValueError as error:
        end_command(error)
    sys.path.append(os.getcwd())  # for classes of yours: an installed command does not look there
    register_resolvers()
    share_structured_configs()
    accept_lazy_help()
    fail_in_silence()
    shown = os.environ.get(FULL_ERROR) == "1" or "--traceback" in sys.argv
    sys.argv = [arg for arg in sys.argv if arg != "--traceback"]
    sys.argv[1:] = _options_first(sys.argv[1:])
    os.environ[FULL_ERROR] = "1"  # Hydra then raises what it would print in words of its own
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(task)()
    except SystemExit as end:
        if shown and isinstance(end.code, str) and end.__context__:  # what was wrong, in a line
            traceback.print_exception(end.__context__)
        raise
    except Exception as error:
        if shown:
            raise
        end_command(_in_a_line(error))


def _options_first(args: list[str]) -> list[str]:
    """Hydra's options before overrides, between which argparse takes none; as they are where a value is missing."""
    if "--" in args or (args and args[-1] in VALUED):
        return args
    options, overrides, rest = list[str](), list[str](), iter(args)
    for arg in rest:
        if arg in VALUED:
            options += [arg, next(rest)]
        else:
            (options if arg.partition("=")[0] in FLAGS + VALUED else overrides).append(arg)
    return options + overrides


def _in_a_line(error: Exception) -> str:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from prunelab.job.command.mistakes import explain
    from prunelab.store.failure import one_line

    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain(error)
    return f"{one_line(error)}; {getattr(error, '__notes__', ['--traceback shows where'])[-1]}"


def task(cfg: "DictConfig") -> float:
    """One job; returns the test accuracy after the last epoch, a fraction."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from prunelab.job.run import run  # imports torch, which composing does not need

    with stoppable() as stop:
        try:
            return run(cfg)
        except (Busy, Interrupted) as outcome:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            print(f"train: {printable(outcome)}", file=sys.stderr)
            sys.exit(BUSY if isinstance(outcome, Busy) else stop.status)
        except Exception as error:
            folder = Path(HydraConfig.get().runtime.output_dir)
            if (folder / "failure.json").exists():
                error.add_note(f"the traceback is in {folder / 'failure.json'}")
            raise
        except (SystemExit, KeyboardInterrupt):
            if stop:  # a second Ctrl-C, for which Lightning has another status
                sys.exit(stop.status)
            raise


if __name__ == "__main__":
    main()
