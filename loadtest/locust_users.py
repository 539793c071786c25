"""Who asks: one user a process that follows the plan's times, and users who wait for answers."""

from typing import ClassVar

from locust import LoadTestShape, User, constant, task
from locust.exception import StopUser

from loadtest.locust_run import run_of

_MAX_SPAWN_RATE = 100.0
_GRACE_S = 15.0
"""Workers say only now and then that their users have ended."""


class ScheduledUser(User):
    """Sends this process's share of the arrivals, each at its time: the load is open."""

    @task
    def follow(self) -> None:
        """All of them, and then the end."""
        run_of(self.environment).follow_arrivals()
        raise StopUser


class WaitingUser(User):
    """Asks, waits for the answer, and asks again: the load is closed."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Called by locust."""
        self._number = run_of(self.environment).next_user()
        self._turn = 0

    @task
    def ask(self) -> None:
        """Once."""
        run = run_of(self.environment)
        if run.is_over:
            raise StopUser
        run.ask_again(self._number, self._turn)
        self._turn += 1


class PlanShape(LoadTestShape):
    """As many users as the plan has, all at once, until the last one has ended."""

    abstract: ClassVar[bool] = False
    use_common_options = True

    def tick(self) -> tuple[int, float, list[type[User]] | None] | None:
        """Called by locust every second."""
        assert self.runner is not None
        run = run_of(self.runner.environment)
        plan, late_s = run.plan, self.get_run_time() - run.plan.duration_s
        is_done = late_s > 0 and self.get_current_user_count() == 0
        if is_done or late_s > run.config.drain_s + _GRACE_S:
            return None
        num_senders = self.runner.worker_count if plan.arrivals else 0
        ScheduledUser.fixed_count = num_senders
        classes = [ScheduledUser] * bool(plan.arrivals) + [WaitingUser] * bool(plan.num_users)
        total = num_senders + plan.num_users
        return total, min(float(total), _MAX_SPAWN_RATE), classes
