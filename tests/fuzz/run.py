"""Throws mutated files at every reader: `make fuzz` for minutes, the fast suite for seconds with a fixed seed.

A reader may raise errors of ours and nothing else, take 2 s, and 500 MB. What it may not do is written to
``tests/fuzz/corpus``, from where every later run begins with it.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from tests.fuzz.mutate import mutated
from tests.fuzz.readers import Reader, readers
from tests.fuzz.structured import restructured

CORPUS = Path(__file__).with_name("corpus")
LIMIT_S, LIMIT_BYTES = 2.0, 500 << 20


def trial(reader: Reader, data: bytes, folder: Path) -> str:
    """What a reader did that it may not; empty for nothing."""
    begun = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(data, folder)
    except reader.allowed():
        pass
    except Exception:
        return traceback.format_exc()
    if (spent := time.process_time() - begun) > LIMIT_S:
        return f"it took {spent:.1f} s of CPU"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return f"it took {grown >> 20} MB" if grown > LIMIT_BYTES else ""


def known(reader: Reader) -> list[bytes]:
    """Inputs that were too much once."""
    return [file.read_bytes() for file in sorted(CORPUS.glob(f"{_slug(reader)}-*"))]


def keep(reader: Reader, data: bytes) -> Path:
    """Keep an input for later runs."""
    file = CORPUS / f"{_slug(reader)}-{hashlib.sha256(data).hexdigest()[:12]}"
    file.write_bytes(data)
    return file


def _slug(reader: Reader) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in reader.name)


def main() -> int:
    """Run it; the exit code is 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="for all readers together")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help="readers whose name has this in it")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}")
    found = 0
    with readers() as all_readers, tempfile.TemporaryDirectory() as name:
        wanted = [reader for reader in all_readers if chosen.only in reader.name]
        for reader in wanted:
            folder = Path(name) / _slug(reader)
            folder.mkdir()
            chance = random.Random(f"{chosen.seed} {reader.name}")
            end, trials, said = time.monotonic() + chosen.seconds / len(wanted), 0, set[str]()
            for seed in reader.seeds:
                if problem := trial(reader, seed, folder):
                    print(f"{reader.name}: the sound input is refused:\n{problem}")
                    found += 1
            while time.monotonic() < end:
                change = chance.choice((mutated, restructured))
                data = change(chance.choice(reader.seeds), chance)
                trials += 1
                problem = trial(reader, data, folder)
                last = problem.strip().rpartition("\n")[2][:80]
                if problem and last not in said:
                    said.add(last)
                    found += 1
                    print(f"{reader.name}: {problem}\nkept as {keep(reader, data)}", flush=True)
            print(f"{reader.name}: {trials} trials, {len(said)} problems", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
