"""Group photos that look alike, without classes: k-means on their features; a photo per cluster stands for it.

inception classify PHOTOS --out preds.csv --features features.npy
python clusters.py preds.csv features.npy CLUSTERS > clusters.csv
"""

import sys

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize

rows = pd.read_csv(sys.argv[1], keep_default_na=False, na_values=[""])  # a class may be called NA or None
features = np.load(sys.argv[2])

ok = rows["status"] == "ok"  # the other rows of the array are NaN
features = normalize(features[ok])
kmeans = KMeans(int(sys.argv[3]), n_init=4, random_state=0).fit(features)
distances = kmeans.transform(features)
table = rows.loc[ok, ["path", "top1_label"]].assign(cluster=kmeans.labels_, distance=distances.min(axis=1))
table.sort_values(["cluster", "distance"]).to_csv(sys.stdout, index=False)
for cluster, photos in table.groupby("cluster"):
    centre = photos.loc[photos["distance"].idxmin(), "path"]
    print(f"cluster {cluster}: {len(photos)} photos like {centre}", file=sys.stderr)
