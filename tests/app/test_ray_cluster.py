"""What a failed start says. Starts no Ray."""

from app.config import load_settings
from app.ray_cluster import num_cpus_needed, why_failed

MESSAGE = """The deployment failed to start 2 times in a row. Error:
ray::ServeReplica:flora:door.initialize_and_get_metadata()
  File "x.py", line 1, in __init__
    raise ValueError("no tokenizer")
ValueError: no tokenizer
and what it says on its second line
"""


def test_the_cause_is_the_last_line_of_the_traceback() -> None:
    messages = {"door": MESSAGE, "replica": "", "other": "still starting"}
    assert why_failed(messages) == "door: ValueError: no tokenizer"
    assert why_failed({"door": ""}) == ""


def test_every_replica_finds_its_cpus() -> None:
    settings = load_settings(overrides={"replica": {"num_replicas": 100, "num_cpus": 2}})
    assert num_cpus_needed(settings) >= 200


def test_every_replica_that_may_come_finds_its_cpus() -> None:
    replica = {"num_cpus": 2, "scaling": {"max_replicas": 100}}
    assert num_cpus_needed(load_settings(overrides={"replica": replica})) >= 200
