#!/bin/sh
# Classify photos once, then score the predictions against a CSV of labels, without the network.
# The CSV has the columns path and label. The exit code is 5 if top-1 is below 80 %.
#
#   sh evaluate_labels.sh PHOTOS LABELS.csv [WEIGHTS]
set -eu
photos=$1 labels=$2 weights=${3:-torchvision}

inception classify "$photos" --weights "$weights" --decode exact --out preds.csv
inception evaluate --predictions preds.csv --labels "$labels" --per-class per_class.csv --report report.html \
    --expect-top1 80
