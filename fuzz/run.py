"""Coverage-guided fuzzing of one target, without end:  python -m fuzz.run TARGET [libFuzzer options]

It needs atheris (`pip install --group fuzz`), which has wheels for Python 3.11 to 3.13 on Linux.  Inputs that reach
new code are kept in fuzz/found/<target>, which is not part of the repository.  An input that breaks the invariant is
written to fuzz/found as crash-<hash>; once the bug is mended, move it to fuzz/corpus/<target>, where the tests play it
again for ever.  A bug is whatever the first line of the target rules out; a run that only gets slow or large counts
too (-timeout=, -rss_limit_mb=).
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["walstore", "fuzz"]):
    from fuzz.seeds import write
    from fuzz.targets import TARGETS

HERE = Path(__file__).parent


def main(arguments: list[str]) -> None:
    """Runs until it is stopped or has found something."""
    if len(arguments) < 2 or arguments[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz.run TARGET [options]\ntargets: {' '.join(TARGETS)}")
    target = arguments[1]
    found = HERE / "found"
    write(found)
    corpora = [str(directory) for directory in (found / target, HERE / "corpus" / target) if directory.is_dir()]
    options = ["-max_len=65536", "-timeout=10", "-rss_limit_mb=1024", f"-artifact_prefix={found}/"]
    atheris.Setup([arguments[0], *options, *arguments[2:], *corpora], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
