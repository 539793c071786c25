"""Adapter bytes: the store that holds them, and the node's cache of it. Never opens a payload."""
