"""Conversion time as a ratio to parsing the same file with libcst and formatting it with black.

    python benchmarks/convert_time.py [PATH...] [--rounds N] [--cold FILE]

Without paths it takes the fixtures. In process, each file is parsed and formatted, then converted, turn by turn in one
run, so that what else the machine does meets both alike; the smallest of N rounds counts. Cold is a new process each:
`lightify convert` beside `black`, and beside `torchfix` where that is installed (aim: no slower), turn by turn as well;
the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import black
import libcst

from lightify.convert import convert
from lightify.errors import LightifyError
from lightify.settings import Settings
from lightify.sources import find_sources, read_source

MODE = black.Mode(line_length=100)
AIM = 2.0


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(path: str, rounds: int) -> tuple[float, float, str]:
    """Seconds to parse and format, seconds to convert, and what became of the file."""
    source, settings = read_source(path), Settings()

    def parse_and_format() -> None:
        libcst.parse_module(source.text)
        black.format_str(source.text, mode=MODE)

    parse_and_format()
    conversion = convert(source, settings)  # the first call loads templates and grammar
    pairs = [(seconds(parse_and_format), seconds(lambda: convert(source, settings))) for _ in range(rounds)]
    base, ours = (min(column) for column in zip(*pairs))
    return base, ours, conversion.mode or conversion.refusals[0].code


def cold(path: str, rounds: int) -> dict[str, float]:
    """Median seconds of each command, a new process each time, turn by turn."""
    commands = {
        "lightify convert": [sys.executable, "-m", "lightify", "convert", path, "--force", "-o"],
        "black": [sys.executable, "-m", "black", "-q", "-l", "100"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    torchfix = shutil.which("torchfix")
    if torchfix is not None:
        commands["torchfix"] = [torchfix]
    spent: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, command in commands.items():
                target = Path(folder) / "out.py"
                target.write_bytes(Path(path).read_bytes())
                arguments = command if name.startswith("python") else [*command, str(target)]
                spent[name].append(seconds(lambda arguments=arguments: subprocess.run(arguments, capture_output=True)))
    return {name: statistics.median(found) for name, found in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("paths", nargs="*", help="scripts or folders; the fixtures' inputs by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", metavar="FILE", help="the script for the cold comparison; the largest by default")
    options = parser.parse_args()
    fixtures = Path(__file__).parent.parent / "fixtures"
    paths = find_sources(options.paths) if options.paths else sorted(map(str, fixtures.glob("*/input.py")))

    ratios, largest = [], ("", 0.0)
    print(f"{'parse+format':>13} {'convert':>9} {'ratio':>6}  answer     file")
    for path in paths:
        try:
            base, ours, answer = measure(path, options.rounds)
        except LightifyError as error:
            print(f"{'':>13} {'':>9} {'':>6}  {error.diagnostic.code:<9}  {path}")
            continue
        print(f"{base * 1e3:>10.1f} ms {ours * 1e3:>6.1f} ms {ours / base:>6.2f}  {answer:<9}  {path}")
        if not answer.startswith("LF"):
            ratios.append(ours / base)
            largest = max(largest, (path, base), key=lambda pair: pair[1])
    if not ratios:
        sys.exit("nothing was converted")
    print(f"\nmedian ratio over {len(ratios)} converted files: {statistics.median(ratios):.2f} (aim: at most {AIM})")
    path = options.cold or largest[0]
    print(f"\ncold, {path}:")
    spent = cold(path, options.rounds)
    for name, median in spent.items():
        print(f"  {name:<18} {median:.2f} s   lightify convert takes {spent['lightify convert'] / median:.2f} of it")


if __name__ == "__main__":
    main()
