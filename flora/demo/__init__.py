"""Four small adapters with a plain effect: their data, and how they are trained."""
