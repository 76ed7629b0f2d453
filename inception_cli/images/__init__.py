"""Files and pixels only: what was named, decoded, preprocessed, batched."""
