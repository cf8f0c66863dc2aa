"""What becomes of runs that are killed and of files that are damaged.

    python benchmarks/faults.py                       200 kills, 400 flipped bits, every damage
    python benchmarks/faults.py --kills=8 --flips=10

Appends to results/faults.json what is missing there, so that it may be stopped at any moment and
given again, and writes the table of docs/reliability.md. Rows of other hardware, other versions or
other sources of what is tested (initjax/ and launch.py) are dropped.
"""

import argparse
import collections
import functools
import hashlib
import json
import pathlib
import re
import resource
import tempfile
import time

import common
import damages
import injections

from initjax.support.environment import describe_environment
from initjax.support.files import strict_json, write_whole

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- table: written by benchmarks/faults.py -->", "<!-- end of the table -->"
_KILLS_A_RUN = 6
_FLIPS_AT_ONCE = 50
_OUTCOMES = ("equal", "told", "lost", "wrong")


def table(result: dict) -> str:
    """The table of docs/reliability.md."""
    header = (
        "fault", "injected", "as if nothing had been", "said in two lines", "lost",
        "silently wrong",
    )  # fmt: skip
    lines = []
    rows = result["rows"]
    for name in injections.KILLED:
        for number in ("SIGKILL", "SIGTERM"):
            found = [
                row["outcome"]
                for row in rows
                if row["fault"] == name
                for kill in row["kills"]
                if kill[0] == number
            ]
            lines.append([f"{number}: {name}", found])
    lines.append(["a flipped bit of a checkpoint", [r["outcome"] for r in _of(rows, "flip")]])
    lines += [[name, [r["outcome"] for r in _of(rows, name)]] for name in damages.all_damages()]
    shown = [[name, len(found), *map(found.count, _OUTCOMES)] for name, found in lines if found]
    shown.append(["**all**", *(sum(column) for column in list(zip(*shown, strict=True))[1:])])
    text = ["| " + " | ".join(map(str, line)) + " |" for line in (header, *shown)]
    about = result["environment"]
    made = (
        f"{about['host']}, Python {about['python']}, JAX {about['jax']}, sources"
        f" {about['sources'][:12]}, {about['date']}: `{about['command']}`."
    )
    return "\n".join([text[0], "|---" * len(header) + "|", *text[1:], "", made])


def _of(rows, fault):
    return [row for row in rows if row["fault"] == fault]


def _environment() -> dict:
    """Of a child, because it starts JAX."""
    with tempfile.NamedTemporaryFile() as file:
        path = pathlib.Path(file.name)
        injections.in_child(lambda: path.write_text(json.dumps(describe_environment())) and None)
        return json.loads(path.read_text())


def _sources() -> str:
    """SHA-256 of what is tested: every module of initjax, and launch.py."""
    digest = hashlib.sha256()
    for path in [*sorted((ROOT / "initjax").rglob("*.py")), ROOT / "launch.py"]:
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


class Results:
    """results/faults.json, which is whole after every row."""

    def __init__(self):
        self.environment = _environment() | {"sources": _sources()}
        same = ("device", "host", "python", "jax", "jaxlib", "sources")
        path = common.RESULTS / "faults.json"
        earlier = json.loads(path.read_text()) if path.exists() else {"environment": {}}
        known = all(earlier["environment"].get(k) == self.environment[k] for k in same)
        self.rows = earlier["rows"] if known else []

    def add(self, *rows: dict) -> None:
        """Keeps rows of one fault, and says how far all is."""
        self.rows += rows
        result = {"environment": self.environment, "rows": self.rows}
        write_whole(common.RESULTS / "faults.json", strict_json(result, indent=1) + "\n")
        outcomes = collections.Counter(row["outcome"] for row in rows)
        found = ", ".join(f"{number} x {outcome}" for outcome, number in outcomes.items())
        what, kills = rows[0]["fault"], sum(len(row.get("kills", ())) for row in rows)
        print(f"{self}: {what}{f', {kills} kills' * bool(kills)}: {found}", flush=True)

    def __str__(self):
        names = set(damages.all_damages())
        done = sum(row["fault"] in names for row in self.rows)
        flips = len(_of(self.rows, "flip"))
        return f"{self.kills} kills, {flips} flips, {done} of {len(names)} damages"

    @property
    def kills(self) -> int:
        """How many there have been."""
        return sum(len(row.get("kills", ())) for row in self.rows)


def _undisturbed(name, place) -> tuple[str, float]:
    """(result, seconds of the part that may be killed) of a scenario; the first call compiles."""
    scenario = injections.SCENARIOS[name]
    for number in range(2):
        folder = place / f"{name} {number}"
        folder.mkdir()
        found = injections.in_child(lambda folder=folder: scenario.run(folder))
        assert found.code == 0, found.err
    return scenario.result(folder), found.seconds


def inject(results: Results, kills: int, flips: int, place: pathlib.Path) -> None:
    """Does what is missing."""
    undisturbed = functools.cache(lambda name: _undisturbed(name, place))
    while results.kills < kills:
        counts = {n: len(_of(results.rows, n)) for n in injections.KILLED}
        name = min(counts, key=counts.__getitem__)
        found = injections.kill_until_it_ends(
            injections.SCENARIOS[name],
            *undisturbed(name),
            seed=f"{name} {counts[name]}",
            most=min(_KILLS_A_RUN, kills - results.kills),
            folder=_new_folder(place),
        )
        results.add({"fault": name, **found})
    while (missing := flips - len(_of(results.rows, "flip"))) > 0:
        path = _new_folder(place) / "flips.json"
        number, seed = min(missing, _FLIPS_AT_ONCE), len(results.rows)
        found = injections.in_child(functools.partial(injections.flip_bits, number, seed, path))
        assert found.code == 0, found.err
        outcomes = json.loads(path.read_text()) + ["lost"] * bool(found.err)
        results.add(*({"fault": "flip", "outcome": o, "said": found.err} for o in outcomes))
    for damaged in damages.DAMAGED:
        names = [name for name in damaged.damages if not _of(results.rows, name)]
        if names:
            whole, _ = undisturbed(damaged.scenario)
            begun = _new_folder(place)
            begin = functools.partial(damaged.begin, begun)
            assert injections.in_child(begin).code in (0, 143)
        for name in names:
            folder = _new_folder(place)
            found = damages.judge_damage(damaged, name, whole, begun, folder)
            _add(results, name, found, folder)
    for name in (*damages.MEANWHILE, "disk full"):
        if not _of(results.rows, name):
            folder = _new_folder(place)
            found = damages.judge_meanwhile(name, undisturbed("single run")[0], folder)
            _add(results, name, found, folder)


def _new_folder(place):
    return pathlib.Path(tempfile.mkdtemp(dir=place))


def _add(results, name, found, folder):
    said = re.sub(r"\S*/site-packages/", "", found["said"].replace(f"{folder}/", ""))
    results.add({"fault": name, "outcome": found["outcome"], "said": said})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--flips", type=int, default=400)
    args = parser.parse_args()
    began = time.perf_counter()
    results = Results()
    with tempfile.TemporaryDirectory() as place:
        inject(results, args.kills, args.flips, pathlib.Path(place))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{time.perf_counter() - began:.0f} s, {used.ru_utime + used.ru_stime:.0f} CPU seconds")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    shown = table({"environment": results.environment, "rows": results.rows})
    write_whole(PAGE, f"{before}{BEGIN}\n\n{shown}\n\n{END}{after}")
    if bad := [row for row in results.rows if row.get("outcome") in ("lost", "wrong")]:
        raise SystemExit(f"{len(bad)} lost or wrong: {bad[:3]}")


if __name__ == "__main__":
    main()
