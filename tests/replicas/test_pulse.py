from replicas.pulse import Pulse


def test_an_engine_with_requests_has_to_move() -> None:
    now_s = [0.0]
    pulse = Pulse(lambda: now_s[0])
    assert pulse.is_alive(3)
    now_s[0] = 100.0
    assert pulse.is_alive(0)
    assert not pulse.is_alive(1)
    pulse.beat()
    assert pulse.is_alive(1)
