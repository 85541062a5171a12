"""Check the curves of the README's first command: ``python tests/check_main_job.py multirun_reports/main/points.csv``.

P@5 and R@20, within and across languages, must be higher at fraction 1.0 than at 0.1 and than those of the untrained
encoder, for both methods; and hybrid must lead across languages.
"""

import sys

import pandas as pd

METHODS, FRACTIONS = ("hybrid", "dapt"), (0.1, 0.25, 0.5, 1.0)


def main(path: str) -> int:
    points = pd.read_csv(path)
    table = points.set_index(["method", "fraction", "setting", "measure"])["value"].sort_index()
    untrained = points[points["method"] == "zero_shot"].set_index(["setting", "measure"])["value"].sort_index()
    failures = [f"no job {method} at {f}" for method in METHODS for f in FRACTIONS if (method, f) not in table.index]
    for setting in () if failures else ("mono", "cross"):
        for measure in ("P@5", "R@20"):
            values = {m: [float(table[(m, f, setting, measure)]) for f in FRACTIONS] for m in METHODS}
            start = float(untrained[(setting, measure)])
            for method, curve in values.items():
                print(
                    f"{setting:5} {measure:4} {method:6} untrained {start:.4f} →", " ".join(f"{v:.4f}" for v in curve)
                )
                if not curve[-1] > max(curve[0], start):
                    failures.append(f"{setting} {measure} of {method} does not rise")
            if setting == "cross" and not values["hybrid"][-1] > values["dapt"][-1]:
                failures.append(f"hybrid does not lead in {setting} {measure}")
    for failure in failures:
        print("FAILED:", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
