"""`hl7bridge` and `python -m hl7bridge`."""

from hl7bridge.cli.main import cli


def main() -> None:
    """The console script. Ends the process with a documented exit code."""
    cli(prog_name="hl7bridge")


if __name__ == "__main__":
    main()
