"""What `preheat --help` and other first commands cost, as ratios to `python -c "import argparse"`: CPU seconds of whole
processes, one after the other in turn, medians of the ratios.

python bench/startup.py [--runs N]        exits with 1 if `preheat --help` takes more than twice as long

`import click` is the least that any command can take which click reads.
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

TARGET_RATIO = 2.0
PEER = "import argparse"
SCRIPT = "import sys; from preheat.cli import main; sys.argv = ['preheat', *{!r}]; main()"
COMMANDS = {
    PEER: ["-c", PEER],
    "import click": ["-c", "import click"],
    "preheat --help": ["-c", SCRIPT.format(["--help"])],
    "preheat --version": ["-c", SCRIPT.format(["--version"])],
    "preheat plan --help": ["-c", SCRIPT.format(["plan", "--help"])],
    "import preheat": ["-c", "import preheat"],
}


def cpu_seconds(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands() -> dict[str, list[str]]:
    """Those above and, where it is installed, the script itself."""
    script = shutil.which("preheat", path=str(Path(sys.executable).parent))
    return COMMANDS | ({"the script preheat --help": [script, "--help"]} if script else {})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21, help="runs of each, in turn (default 21)")
    runs = parser.parse_args().runs
    tried = commands()
    for arguments in tried.values():
        cpu_seconds(arguments)  # fill the page cache and the byte code
    rounds = [{name: cpu_seconds(arguments) for name, arguments in tried.items()} for _ in range(runs)]
    ratios = {name: statistics.median(each[name] / each[PEER] for each in rounds) for name in tried}
    for name, ratio in ratios.items():
        print(f"{name}: {statistics.median(each[name] for each in rounds) * 1000:.0f} ms of CPU, ratio {ratio:.2f}")
    is_met = ratios["preheat --help"] <= TARGET_RATIO
    print(f"target: preheat --help at most {TARGET_RATIO} times {PEER}: {'met' if is_met else 'not met'}")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
