"""The documentation's pages, and the commands and programs in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Pages that a user reads from top to bottom: their commands are run, in this order.
GUIDES = [
    *(ROOT / "README.md", ROOT / "docs/tutorial.md", *sorted(ROOT.glob("docs/*.md"))),
    *(
        ROOT / "calibration/README.md",
        ROOT / "deploy/tensorrt.md",
        ROOT / "deploy/README.md",
        ROOT / "examples/README.md",
    ),
    *(ROOT / "benchmarks/README.md", ROOT / "benchmarks/NOTES.md", ROOT / "benchmarks/reliability/README.md"),
    *(ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Commands that another test runs, and where.
ELSEWHERE = {
    r"edgeclf train cifar10": "tests/data/test_public_sets.py",
    r"edgeclf demo": "tests/deployment/test_demonstration.py",
    r"edgeclf serve|curl ": "tests/deployment/serving",
    r"edgeclf (predict|evaluate|audit) .*--engine ray": "tests/evaluation/bulk",
    r"sudo python3 \S+ install-service": "tests/runtime/commands",
    r"python3 (-m pytest )?examples/": "tests/product/test_examples.py",
    r"g\+\+ |\./other_language": "tests/product/test_examples.py",
    r"bash benchmarks/gpu\.sh": "tests/product/benchmarks/test_boards.py",
    r"curl .*http://localhost:8080/v1/": "tests/runtime/sinks/test_live_classify.py",
    r"mkdocs serve": "tests/product/test_docs.py",
    r"python3 benchmarks/figures/(ratios|compare)\.py": "tests/product/benchmarks/test_benchmarks.py",
    r"python3 benchmarks/reliability/bundles\.py": "tests/product/benchmarks/test_bundle_attacks.py",
    r'python3 -m pip install -e "\.\[test\]" && pytest': ".ci/run",
}
# Commands that no test runs, and why.
NOT_HERE = {
    r"git clone": "needs the internet",
    r"python3 -m pip install": "needs a package index, and changes the environment of the tests",
    r"apt-get install": "needs a package index, and changes the machine",
    r"scp ": "needs a second machine",
    r"docker |printf .* docker ": "needs a Docker engine; benchmarks/containers/containers.py does the same in namespaces",
    r"kubectl ": "needs a Kubernetes cluster; tests/product/test_containers.py checks the files",
    r"cd deploy/containers|mkdir -p secrets|sudo chown 10001": "prepares what needs a Docker engine",
    r"sudo cp -r pets\.edge /opt/": "writes to /opt; benchmarks/device_guide/device_page.py runs it",
    r"sudo (nvpmodel|jetson_clocks)": "needs a Jetson",
    r"python3 \S+\.edge bench --backend tensorrt-rtx": "needs an RTX card and its plug-in",
    r"edgeclf train fashion-mnist": "trains for an hour",
    r"python3 benchmarks/speed/latency\.py": "measures for minutes; tests/product/benchmarks/test_benchmarks.py runs its parts",
    r"python3 benchmarks/reliability/(kills|live|threads|network)\.py": "attacks for minutes; the tests of its subject do less",
    r"sudo python3 benchmarks/device_guide/device_page\.py": "changes the machine for minutes, as root",
}


def guides():
    """Return each guide once, with the name for a test."""
    return {path.relative_to(ROOT).as_posix(): path for path in GUIDES}


def blocks(path, language):
    """Return the texts of a page's blocks of code in a language, "" for those without one: commands."""
    return [text for found, text in BLOCK.findall(path.read_text(encoding="utf-8")) if found == language]


def command_lines(path):
    """Return the commands of a page, without their comments: each line of its blocks of code without a language."""
    lines = [re.sub(r"\s+# .*", "", line) for text in blocks(path, "") for line in text.splitlines()]
    return [line for command in lines for line in command.split(" && cd ")[:1] if line.strip()]


def elsewhere(line):
    """Return where or why a command is not run with its page, None if it is run there."""
    return next((why for table in (ELSEWHERE, NOT_HERE) for words, why in table.items() if re.match(words, line)), None)
