"""`pytest --hypothesis-profile=fuzz tests/...` tries far more of what the property tests try."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz", max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck)
)
