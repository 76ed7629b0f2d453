"""Classify a folder from Python: count the classes, and list the files that could not be read.

python python_api.py PHOTOS [WEIGHTS]
"""

import sys
from collections import Counter

from inception_cli import Classifier

photos, weights = sys.argv[1], (sys.argv[2:] or ["torchvision"])[0]
classifier = Classifier(weights)

# For any number of photos: predictions are yielded batch by batch.
counts: Counter[str] = Counter()
for prediction in classifier.stream(photos):
    if prediction.status == "ok":
        counts[prediction.labels[0]] += 1
    else:
        print(f"{prediction.status}: {prediction.path}: {prediction.error}")
print(counts.most_common())

# As a pandas DataFrame with the columns of the CSV file:
frame = classifier.to_frame(photos)
print(frame[frame["status"] == "ok"].groupby("top1_label")["top1_score"].mean())
