"""`hl7bridge` and `python -m hl7bridge`."""

from hl7bridge.collecting import held


def main() -> None:
    """The console script. Ends the process with a documented exit code."""
    with held():
        from hl7bridge.cli.main import cli
    cli(prog_name="hl7bridge")


if __name__ == "__main__":
    main()
