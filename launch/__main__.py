"""``python -m launch``: compose the configuration, start Spark, do the job (``distributed_cls.jobs``)."""

import os
import sys
from pathlib import Path

if __package__ in (None, ""):  # spark-submit launch/__main__.py runs this file alone
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


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
    # Hydra then raises what went wrong instead of printing it, and launch.exit_codes says it in one line.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.exit(_launch(arguments))


def _launch(arguments: list[str]) -> int:
    import hydra
    from omegaconf import DictConfig

    from launch import composition, exit_codes, flags, help, logs, resume, schema, text_values, trial

    launcher = trial.Launcher()

    def command() -> None:
        schema.register()
        if help.wanted(arguments):
            help.print_help(arguments)
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
