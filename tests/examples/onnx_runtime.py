"""Classify photos with 8 bits per colour with ONNX Runtime, without inception and torch.

inception export --weights demo --out demo.onnx
python onnx_runtime.py demo.onnx PHOTO...
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
metadata = session.get_modelmeta().custom_metadata_map
classes, preset = json.loads(metadata["classes"]), json.loads(metadata["preset"])
side, short = preset["size"], preset["resize"]
if not preset["antialias"]:
    sys.exit(f"{sys.argv[1]}: photos of the preset {preset['name']} are resized by cv2.resize, not by Pillow")

for photo in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(photo))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB")
    width, height = (short * length // min(image.size) for length in image.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    resized = image.resize((width, height), Image.Resampling[preset["filter"].upper()])
    pixels = np.asarray(resized.crop((left, top, left + side, top + side)))[None]  # uint8 (1, S, S, 3)
    (scores,) = session.run(["scores"], {"pixels": pixels})
    best = scores[0].argmax()
    print(f"{photo}\t{classes[best]}\t{scores[0, best]:.3f}")
