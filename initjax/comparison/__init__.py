"""Which start is better? Runs over several seeds, and a verdict that noise cannot fake.

from initjax import comparison
runs = comparison.read("runs/nspl", "runs/he_normal", "others.csv")
verdict = comparison.judge(runs, baseline="he_normal")
print(comparison.table(verdict))
comparison.save(verdict, runs, pathlib.Path("out"))
found = comparison.compare(make_model, data, ["nspl", "he_normal"], seeds=10)  # trains first
"""

# ruff: noqa: E402 - without the extra, the imports below would not say what to install.

from initjax.support import extras

extras.need("train")

from initjax.comparison.compare import Comparison as Comparison, compare as compare
from initjax.comparison.decisions import Plan as Plan, plan as plan
from initjax.comparison.frames import to_frame as to_frame, to_scores as to_scores
from initjax.comparison.report import save as save
from initjax.comparison.results import Verdict as Verdict
from initjax.comparison.rows import Run as Run, read as read
from initjax.comparison.tables import table as table
from initjax.comparison.verdict import judge as judge
