"""What a user would write without tagmill, as `python -m bench.keras_scripts KIND WEIGHTS FOLDER`.

``loop`` is the example of Keras' own documentation: one image at a time through
`model.predict`. ``batched`` is what its author writes the day after: batches of 32.
Prints images and seconds, imports and model loading left out.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

BATCH = 32


def main() -> None:
    """Label some images of a folder and say how long it took."""
    kind, weights, folder, count = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    import keras
    import numpy as np

    model = keras.applications.MobileNetV2(weights=weights or "imagenet")
    batch = 1 if kind == "loop" else BATCH
    model.predict(np.zeros((batch, 224, 224, 3), np.float32), verbose=0)  # traces the graph
    paths = sorted(folder.iterdir())[:count]
    began = time.perf_counter()
    for start in range(0, len(paths), batch):
        images = np.stack(
            [
                keras.utils.img_to_array(keras.utils.load_img(path, target_size=(224, 224)))
                for path in paths[start : start + batch]
            ]
        )
        scores = model.predict(keras.applications.mobilenet_v2.preprocess_input(images), verbose=0)
        np.argsort(scores, axis=1)[:, -5:]
    print(len(paths), time.perf_counter() - began)


if __name__ == "__main__":
    main()
