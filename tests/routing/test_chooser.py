"""The policy with what Serve tells, and what the door sends."""

from contracts.adapters import BASE, AdapterKey, Digest, TenantId
from contracts.generation import GenerateRequest, Sampling
from contracts.load import TokensLeft
from contracts.replica import ReplicaReport, digest_word
from routing.chooser import ReplicaChooser
from routing.config import RoutingConfig
from routing.members import Members, members_of
from routing.rendezvous import word_of


def make_key(number: int) -> AdapterKey:
    return AdapterKey(TenantId("t"), f"a{number}", 1, Digest(f"{number:064x}"[::-1]), 8)


def make_request(key: AdapterKey = BASE, prompt: tuple[int, ...] = (1, 2)) -> GenerateRequest:
    return GenerateRequest("q", key, prompt, Sampling(10))


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make_chooser(*names: str, **settings: float) -> tuple[ReplicaChooser, Members]:
    members = Members()
    members.tell(dict.fromkeys(names))
    return ReplicaChooser(members, RoutingConfig(**settings), Clock()), members  # type: ignore[arg-type]


def test_nobody_is_chosen_where_nobody_is() -> None:
    chooser, members = make_chooser()
    assert chooser.place([make_request()]) is None
    members.tell({"a": None})
    placements = chooser.place([make_request()])
    assert placements is not None
    assert [p.replica_id for p in placements] == ["a"]


def test_reports_are_what_was_told_last_without_asking_for_a_place() -> None:
    chooser, members = make_chooser("a", "b")
    assert chooser.reports() == {"a": None, "b": None}
    report = ReplicaReport(1, 5, 1, (7,))
    members.tell({"b": report})
    assert chooser.reports() == {"b": report}


def test_what_is_sent_counts_until_it_is_done() -> None:
    chooser, _ = make_chooser("a", "b")
    requests = [make_request() for _ in range(4)]
    first = chooser.place(requests)
    assert first is not None
    assert sorted(p.replica_id for p in first) == ["a", "a", "b", "b"]
    cost = TokensLeft(requests[0]).num_tokens
    assert sorted(chooser.fleet.loads(0.0))[:2] == [2 * cost, 2 * cost]
    chooser.done("a", 2 * cost)
    second = chooser.place(requests[:2])
    assert second is not None
    assert {p.replica_id for p in second} == {"a"}


def test_an_adapter_stays_where_it_was_sent() -> None:
    chooser, _ = make_chooser("a", "b", "c")
    key = make_key(7)
    (home,) = chooser.homes([key, BASE])
    whys = []
    for _ in range(3):
        placements = chooser.place([make_request(key)])
        assert placements is not None
        assert placements[0].replica_id == home
        whys.append(placements[0].why)
    assert whys == ["home", "resident", "resident"]


def test_a_report_says_where_an_adapter_is() -> None:
    chooser, members = make_chooser("a", "b", "c")
    key = make_key(7)
    (home,) = chooser.homes([key])
    other = next(name for name in "abc" if name != home)
    report = ReplicaReport(1, 0, 0, (digest_word(key.digest),))
    members.tell({name: report if name == other else None for name in "abc"})
    placements = chooser.place([make_request(key)])
    assert placements is not None
    assert (placements[0].replica_id, placements[0].why) == (other, "resident")


def test_who_has_gone_was_drained_unless_it_died() -> None:
    chooser, members = make_chooser("a", "b", "c")
    members.tell({"c": None}, died=["a"])
    assert not chooser.is_drained("a")
    assert chooser.is_drained("b")
    assert not chooser.is_drained("c")
    assert not chooser.is_drained("")


def test_a_suspect_gets_nothing_for_a_while() -> None:
    chooser, _ = make_chooser("a", "b")
    chooser.place([make_request()])
    chooser.suspect("a")
    placements = chooser.place([make_request() for _ in range(6)])
    assert placements is not None
    assert {p.replica_id for p in placements} == {"b"}


def test_long_prompts_that_begin_alike_meet() -> None:
    chooser, _ = make_chooser("a", "b", "c", prefix_tokens=4, slack_requests=100.0)
    same = [make_request(prompt=(5, 6, 7, 8, number)) for number in range(3)]
    where = []
    for request in same:
        placements = chooser.place([request])
        assert placements is not None
        where.append(placements[0].replica_id)
    assert len(set(where)) == 1
    short = chooser.place([make_request(prompt=(5, 6, 7))])
    assert short is not None
    assert short[0].why == "least_loaded"


def test_a_process_knows_each_deployment_once() -> None:
    assert members_of("x") is members_of("x")
    assert members_of("x") is not members_of("y")


def test_the_draw_knows_replicas_by_their_names() -> None:
    assert len({word_of(f"replica-{i}") for i in range(1000)}) == 1000
