import threading

from loadtest.control import Models
from loadtest.outcome import CUT_OFF, Outcome, Stopwatch
from loadtest.plan import BASE, Arrival
from loadtest.session import Session
from loadtest.target import Request
from tests.loadtest.loads import make_ask

MODELS = Models("base", ("base:a", "base:b"))


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class SlowClient:
    """Every answer takes two seconds until its first token and one more until its end."""

    def __init__(self, clock: ManualClock, code: str = "ok") -> None:
        self.clock, self.code = clock, code
        self.requests: list[Request] = []

    def stream(self, request: Request, watch: Stopwatch) -> str:
        self.requests.append(request)
        watch.sent()
        self.clock.sleep(2.0)
        watch.token_event()
        self.clock.sleep(1.0)
        return self.code

    def close(self) -> None:
        """Nothing to hang up."""


def make_session(client: SlowClient, found: list[Outcome]) -> Session:
    session = Session(client, MODELS, lambda group: f"key-{group}", client.clock, found.append)
    session.begin()
    return session


def test_a_request_says_who_asks_for_what() -> None:
    client, found = SlowClient(ManualClock()), list[Outcome]()
    session = make_session(client, found)
    assert session.ask(make_ask(adapter=1, group="quiet")) == "ok"
    session.ask(make_ask(adapter=BASE))
    assert [(r.model, r.key) for r in client.requests] == [
        ("base:b", "key-quiet"),
        ("base", "key-all"),
    ]
    assert (found[0].at_s, found[0].ttft_s, found[0].total_s) == (0.0, 2.0, 3.0)
    assert found[1].at_s == 3.0


def test_who_comes_late_because_of_others_has_waited() -> None:
    """Coordinated omission: a generator that sends one after the other hides no waiting."""
    client, found = SlowClient(ManualClock()), list[Outcome]()
    session = make_session(client, found)
    arrivals = [Arrival(float(at_s), make_ask()) for at_s in range(3)]

    def ask(arrival: Arrival) -> None:
        session.ask(arrival.ask, arrival.at_s)

    session.follow(arrivals, client.clock.sleep, ask)
    assert [outcome.at_s for outcome in found] == [0.0, 1.0, 2.0]
    assert [outcome.lag_s for outcome in found] == [0.0, 2.0, 4.0]
    assert [outcome.ttft_s for outcome in found] == [2.0, 4.0, 6.0]


def test_arrivals_are_handed_over_at_their_times() -> None:
    client, found = SlowClient(ManualClock()), list[Outcome]()
    session = make_session(client, found)
    times: list[float] = []
    arrivals = [Arrival(at_s, make_ask()) for at_s in (0.5, 0.5, 4.0)]
    session.follow(arrivals, client.clock.sleep, lambda a: times.append(session.elapsed_s))
    assert times == [0.5, 0.5, 4.0]


def test_what_is_cut_off_has_failed_once() -> None:
    class StuckClient(SlowClient):
        def stream(self, request: Request, watch: Stopwatch) -> str:
            asked.set()
            released.wait(5)
            return "ok"

    asked, released, found = threading.Event(), threading.Event(), list[Outcome]()
    session = make_session(StuckClient(ManualClock()), found)
    thread = threading.Thread(target=session.ask, args=(make_ask(),))
    thread.start()
    assert asked.wait(5)
    session.cut_off()
    released.set()
    thread.join()
    assert [outcome.code for outcome in found] == [CUT_OFF]
