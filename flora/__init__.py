"""The method, usable with no server: layout, row codec, plain torch layer, training."""
