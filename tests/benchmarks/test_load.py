from pathlib import Path

from benchmarks.load import SERVERS, parse


def test_what_it_does_not_know_is_for_the_load_test() -> None:
    words = ["--shapes", "soak", "--duration", "9", "--publish", "8", "--slo", "failed_share=0"]
    args = parse(words)
    assert (args.shapes, args.servers, args.duration) == (["soak"], list(SERVERS), 9.0)
    assert args.report == Path("loadtest-reports")
    assert args.rest == ["--publish", "8", "--slo", "failed_share=0"]
