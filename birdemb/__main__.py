"""Where the command `birdemb` begins, and `python -m birdemb`."""

from birdemb.interrupts import stop_at_once

__all__ = ["run"]


def run() -> None:
    """Run the command line. What it needs takes a third of a second to import, in which Ctrl-C is no error either."""
    stop_at_once()
    from birdemb.cli import main

    main()


if __name__ == "__main__":
    run()
