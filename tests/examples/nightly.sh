#!/bin/sh
# Classify a folder every night, from cron. After a reboot or a kill on the same day the same command resumes.
#
#   0 2 * * *  sh nightly.sh PHOTOS FOLDER [WEIGHTS]
set -u
out=$2/$(date +%F).csv
if [ -e "$out" ]; then
    echo "$out is finished: nothing to do" >&2
    exit
fi

inception classify "$1" --weights "${3:-torchvision}" --out "$out" --quiet
code=$?
case $code in
    0) ;;
    3) echo "not everything could be read: for photos see the column error in $out" >&2 ;;
    130) echo "interrupted: run this script again to resume $out" >&2 ;;
    *) echo "nothing was published: inception ended with exit code $code" >&2 ;;
esac
exit $code
