"""``python -m launch``: compose the configuration, start Spark, do the job (``distributed_cls.jobs``)."""

import importlib.util
import os
import sys
from pathlib import Path


def _home() -> str:
    """The folder in which this package lies: of this file, or what Spark has unpacked beside it (``--archive``)."""
    own = Path(__file__).resolve().parents[1]
    if (own / "launch" / "__main__.py").is_file():
        return str(own)
    # A cluster's driver has a copy of this file alone, in its working folder.
    unpacked = sorted(place.parents[1] for place in Path.cwd().glob("distributed_cls-*.zip/launch/__main__.py"))
    return str(unpacked[0] if unpacked else own)


if __package__ in (None, ""):  # spark-submit launch/__main__.py runs this file alone
    sys.path.insert(0, _home())


def main() -> None:
    """The command line. Ends the process with 0, 1 or 2; 130 after Ctrl-C, 143 after SIGTERM and SIGHUP."""
    arguments = ["job.json=true" if argument == "--json" else argument for argument in sys.argv[1:]]
    if "--version" in arguments:
        from distributed_cls import __version__

        print(f"distributed_cls {__version__}")
        return
    if "--main-file" in arguments:  # for spark-submit, which wants a file
        print(Path(__file__).resolve())
        return
    if importlib.util.find_spec("distributed_cls") is None:
        sys.exit(
            "error: Expected this project where the driver runs. Received: its main file alone. Install it there, or "
            'submit it with --archives "$(distributed-cls --archive)".'
        )
    if "--archive" in arguments:  # for spark-submit --archives, where the driver runs on the cluster
        from launch.archive import write

        print(write())
        return
    # Hydra then raises what went wrong instead of printing it, and launch.exit_codes says it in one line.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.exit(_launch(arguments))


def _launch(arguments: list[str]) -> int:
    import hydra
    from omegaconf import DictConfig

    from launch import (
        ask_tell_sweeper,
        composition,
        exit_codes,
        flags,
        help,
        logs,
        resume,
        schema,
        text_values,
        trial,
        trial_launcher,
    )

    launcher = trial.Launcher()

    def command() -> None:
        schema.register()
        trial_launcher.register(launcher)
        ask_tell_sweeper.register()
        if help.wanted(arguments):
            help.print_help(arguments)
            return
        if "--prepare-java" in arguments:
            from launch import prepare_java

            print(f"Spark starts faster from now on, with {prepare_java.make()}")
            return
        flags.check(arguments)
        logs.quiet_sweepers(arguments)
        sys.argv[1:] = text_values.kept_as_written(resume.expanded(arguments))
        hydra.main(version_base="1.3", config_path=composition.CONF, config_name="config")(job)()

    def job(composed: DictConfig) -> float | None:
        return launcher.run(composed)

    return exit_codes.code_of(command, launcher)


if __name__ == "__main__":
    main()
