"""What becomes of runs that are killed and of files that are damaged.

    python benchmarks/faults.py                       200 kills, 400 flipped bits, every damage
    python benchmarks/faults.py --kills=8 --flips=10

Appends to results/faults.json what is missing there, so that it may be stopped at any moment and
given again, and writes the table of docs/reliability.md. Rows of other hardware, versions or
commits are dropped.
"""

import argparse
import json
import pathlib
import resource
import tempfile
import time

import common
import injections

from initjax.support.environment import describe_environment
from initjax.support.files import strict_json, write_whole

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: written by benchmarks/faults.py -->", "<!-- end of the table -->"
_KILLS_A_RUN = 6
_OUTCOMES = ("equal", "told", "lost", "wrong")


def table(result: dict) -> str:
    """The table of docs/reliability.md."""
    header = (
        "fault", "injected", "as if nothing had been", "said in two lines", "lost",
        "silently wrong",
    )  # fmt: skip
    lines = []
    rows = result["rows"]
    for name in injections.SCENARIOS:
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
    lines += [[name, [r["outcome"] for r in _of(rows, name)]] for name in injections.all_damages()]
    shown = [[name, len(found), *map(found.count, _OUTCOMES)] for name, found in lines if found]
    shown.append(["**all**", *(sum(column) for column in list(zip(*shown, strict=True))[1:])])
    text = ["| " + " | ".join(map(str, line)) + " |" for line in (header, *shown)]
    about = result["environment"]
    made = (
        f"{about['host']}, Python {about['python']}, JAX {about['jax']}, commit"
        f" {str(about['commit'])[:12]}, {about['date']}: `{about['command']}`."
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


class Results:
    """results/faults.json, which is whole after every row."""

    def __init__(self):
        self.environment = _environment()
        same = ("device", "host", "python", "jax", "jaxlib", "commit", "dirty")
        path = common.RESULTS / "faults.json"
        earlier = json.loads(path.read_text()) if path.exists() else {"environment": {}}
        known = all(earlier["environment"].get(k) == self.environment[k] for k in same)
        self.rows = earlier["rows"] if known else []

    def add(self, **row) -> None:
        self.rows.append(row)
        result = {"environment": self.environment, "rows": self.rows}
        write_whole(common.RESULTS / "faults.json", strict_json(result, indent=1) + "\n")
        print({k: v for k, v in row.items() if v}, flush=True)

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
    whole = {}
    while results.kills < kills:
        counts = {n: len(_of(results.rows, n)) for n in injections.SCENARIOS}
        name = min(counts, key=counts.__getitem__)
        if name not in whole:
            whole[name] = _undisturbed(name, place)
        folder = place / f"killed {len(results.rows)}"
        folder.mkdir()
        found = injections.kill_until_it_ends(
            injections.SCENARIOS[name],
            *whole[name],
            seed=f"{name} {counts[name]}",
            most=min(_KILLS_A_RUN, kills - results.kills),
            folder=folder,
        )
        results.add(fault=name, **found)
    missing = flips - len(_of(results.rows, "flip"))
    if missing > 0:
        path = place / "flips.json"
        seed = len(results.rows)
        found = injections.in_child(
            lambda: path.write_text(json.dumps(injections.flip_bits(missing, seed))) and None
        )
        assert found.code == 0, found.err
        outcomes = json.loads(path.read_text()) + ["lost"] * bool(found.err)
        for outcome in outcomes:
            results.add(fault="flip", outcome=outcome, said=found.err)
    missing = [n for n in injections.all_damages() if not _of(results.rows, n)]
    if missing:
        name = "single run"
        if name not in whole:
            whole[name] = _undisturbed(name, place)
        stopped = place / "stopped"
        stopping = injections.stop_at(injections.STEPS // 2, injections.terminate)
        assert injections.in_child(lambda: stopping(stopped)).code == 143
    for name in missing:
        folder = place / f"damage {len(results.rows)}"
        folder.mkdir()
        found = injections.judge_damage(name, whole["single run"][0], stopped, folder)
        said = found["said"].replace(f"{folder}/", "")
        results.add(fault=name, outcome=found["outcome"], said=said)


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
