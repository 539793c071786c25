"""Which replica serves which request."""
