"""The heavy side of tagmill: lanes, decoding, classifiers, training."""
