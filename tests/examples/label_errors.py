"""List photos that are probably in the wrong class folder, the most doubtful first (pip install cleanlab).

inception classify PHOTOS --weights mine.safetensors --out preds.csv --scores scores.npy
python label_errors.py preds.csv scores.npy

The scores should come from weights that were not trained on these photos. The names of folders and classes are equal.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues

rows = pd.read_csv(sys.argv[1], keep_default_na=False, na_values=[""])  # a class may be called NA or None
scores = np.load(sys.argv[2])
manifest = json.loads(Path(f"{sys.argv[1]}.json").read_text())
names = manifest["run"]["weights"][0]["classes"]["names"]

rows["label"] = [Path(path).parent.name for path in rows["path"]]
known = (rows["status"] == "ok") & rows["label"].isin(names)
rows, scores = rows[known], scores[known]
# cleanlab takes only the classes that occur among the labels.
used = sorted({names.index(label) for label in rows["label"]})
scores = scores[:, used] / scores[:, used].sum(axis=1, keepdims=True)
labels = np.array([used.index(names.index(label)) for label in rows["label"]])
doubtful = find_label_issues(labels, scores, return_indices_ranked_by="self_confidence", n_jobs=1)
print(rows.iloc[doubtful][["path", "label", "top1_label", "top1_score"]].to_string(index=False))
