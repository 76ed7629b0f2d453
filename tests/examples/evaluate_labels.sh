#!/bin/sh
# Classify photos once, then score the predictions against a CSV of labels, without the network: run again, for example
# with corrected labels, it scores the same predictions. Photos that cannot be read are counted apart.
# The CSV has the columns path and label. The exit code is 5 if top-1 is below 80 %.
#
#   sh evaluate_labels.sh PHOTOS LABELS.csv [WEIGHTS]
set -eu
photos=$1 labels=$2 weights=${3:-torchvision}

# As `inception evaluate` classifies, except that the EXIF orientation is always applied, not only if the publisher of
# the weights does so (--no-exif: never).
if [ -e preds.csv ]; then
    echo "preds.csv is scored again; delete it to classify $photos again" >&2
else
    inception classify "$photos" --weights "$weights" --decode exact --precision fp32 --allow-failures --out preds.csv
fi
inception evaluate --predictions preds.csv --labels "$labels" --per-class per_class.csv --report report.html \
    --expect-top1 80
