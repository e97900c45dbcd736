"""`python -m lightify`, and the entry point of the `lightify` command."""

from __future__ import annotations


def main() -> None:
    from lightify.cli import cli

    cli(prog_name="lightify")


if __name__ == "__main__":
    main()
