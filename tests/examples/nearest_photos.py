"""List the photos that look most like each of some photos, by the cosine similarity of their features.

inception classify PHOTOS --out preds.csv --features features.npy
python nearest_photos.py preds.csv features.npy PHOTO... [NUMBER]
"""

import sys

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

rows, features = pd.read_csv(sys.argv[1]), np.load(sys.argv[2])
photos = sys.argv[3:]
number = int(photos.pop()) if photos[-1].isdigit() else 5

ok = rows["status"] == "ok"  # the other rows of the array are NaN
paths, features = rows["path"][ok].to_numpy(), features[ok]
neighbours = NearestNeighbors(n_neighbors=min(number + 1, len(paths)), metric="cosine").fit(features)
for photo in photos:
    distances, nearest = neighbours.kneighbors(features[paths == photo])
    for distance, other in zip(distances[0], paths[nearest[0]], strict=True):
        if other != photo:
            print(f"{photo}\t{1 - distance:.3f}\t{other}")
