"""List the predictions to check by hand: those with the smallest margin between the best and the second-best class.

python least_confident.py preds.csv [NUMBER]
"""

import sys

import pandas as pd

rows = pd.read_csv(sys.argv[1], keep_default_na=False, na_values=[""])  # a class may be called NA or None
number = int(sys.argv[2]) if len(sys.argv) > 2 else 20

ok = rows[rows["status"] == "ok"]
least = ok.assign(margin=ok["top1_score"] - ok["top2_score"]).nsmallest(number, "margin")
print(least[["path", "top1_label", "top2_label", "margin"]].to_string(index=False))
