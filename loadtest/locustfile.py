"""For `locust -f loadtest/locustfile.py`: the users, the shape, and what is to happen when."""

from loadtest import locust_events, locust_options
from loadtest.locust_users import PlanShape, ScheduledUser, WaitingUser

__all__ = ["PlanShape", "ScheduledUser", "WaitingUser", "locust_events", "locust_options"]
