"""List the photos that look most like each of some photos, by the cosine similarity of their features.

inception classify PHOTOS --out preds.csv --features features.npy
python nearest_photos.py preds.csv features.npy PHOTO... [NUMBER]
"""

import os.path
import sys

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

rows = pd.read_csv(sys.argv[1], keep_default_na=False, na_values=[""])  # a class may be called NA or None
features = np.load(sys.argv[2])
photos = sys.argv[3:]
number = int(photos.pop()) if photos[-1].isdigit() else 5

ok = rows["status"] == "ok"  # the other rows of the array are NaN
paths, features = rows["path"][ok].map(os.path.normpath).to_numpy(), features[ok]
neighbours = NearestNeighbors(n_neighbors=min(number + 1, len(paths)), metric="cosine").fit(features)
for photo in map(os.path.normpath, photos):
    if photo not in paths:
        sys.exit(f"{photo}: has no row with a prediction in {sys.argv[1]}; give a path that has one")
    distances, nearest = neighbours.kneighbors(features[paths == photo])
    for distance, other in zip(distances[0], paths[nearest[0]], strict=True):
        if other != photo:
            print(f"{photo}\t{1 - distance:.3f}\t{other}")
