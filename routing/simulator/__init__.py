"""The routing policy against a model of many replicas: the same code, a clock that jumps."""
