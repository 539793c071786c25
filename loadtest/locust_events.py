"""When what happens in a run: prepared at `init`, begun at `test_start`, reported at `quitting`.

The master, or the only process, prepares, does things to the server, and reports. Workers learn
what they need from locust's options, which the master sends them, and send back their outcomes.
"""

import logging
import shlex
import sys
import time
from typing import Any
from weakref import WeakKeyDictionary

import gevent
import httpx
import psutil  # type: ignore[import-untyped]
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtest.command_line import without_secrets
from loadtest.exit_code import exit_code
from loadtest.local_server import LocalServer
from loadtest.locust_run import Run, all_runs, models_from, run_of, set_run, to_worker
from loadtest.locust_stats import notify_deed
from loadtest.preparation import Prepared, plan_of, prepare, reason
from loadtest.report import Result, write_report
from loadtest.run_config import RunConfig, from_options
from loadtest.slo import judge
from loadtest.summary import summarise
from loadtest.tally import Tally

_SENT = "loadtest"
_OUTCOMES = "outcomes"
_READINGS = 240
_READ_EVERY_S = 2.0
logging.getLogger("httpx").setLevel(logging.WARNING)
_prepared: WeakKeyDictionary[Environment, Prepared] = WeakKeyDictionary()


@events.init.add_listener
def on_init(environment: Environment, runner: Any, **_: Any) -> None:
    """Publish and plan, or say why there can be no run."""
    if isinstance(runner, WorkerRunner):
        return
    try:
        prepared = prepare(config_of(environment))
    except (ValueError, OSError, LookupError, httpx.HTTPError) as error:
        sys.exit(f"error: {reason(error)}")
    _prepared[environment] = prepared
    set_run(environment, Run(prepared.config, prepared.models, prepared.plan))


@events.test_start.add_listener
def on_test_start(environment: Environment, **_: Any) -> None:
    """Start this process's clock, and what it does beside the users."""
    runner, options = environment.runner, environment.parsed_options
    if isinstance(runner, WorkerRunner):
        sent = vars(options)[_SENT]
        config = config_of(environment, sent)
        run = Run(config, models_from(sent), plan_of(config), count=sent["count"])
        run.index = runner.worker_index % run.count
        set_run(environment, run)
    else:
        run = run_of(environment)
        run.tally = Tally()
        run.others.spawn(act, environment, run, _prepared[environment])
        if (server := _prepared[environment].watched) is not None:
            run.others.spawn(watch, server, run)
    if isinstance(runner, MasterRunner):
        run.count = runner.worker_count
        vars(options)[_SENT] = to_worker(run)
    else:
        run.begin(environment)


@events.report_to_master.add_listener
def on_report(client_id: str, data: dict[str, Any], **_: Any) -> None:
    """A worker's outcomes since its last report."""
    data[_OUTCOMES] = [outcome for run in all_runs() for outcome in run.tally.take()]


@events.worker_report.add_listener
def on_worker_report(client_id: str, data: dict[str, Any], **_: Any) -> None:
    """Outcomes of one worker."""
    for run in all_runs():
        run.tally.add(data.get(_OUTCOMES, ()))


@events.test_stopping.add_listener
def on_test_stopping(environment: Environment, **_: Any) -> None:
    """Nobody waits any longer."""
    for run in all_runs():
        run.end()


@events.quitting.add_listener
def on_quitting(environment: Environment, **_: Any) -> None:
    """Write the report and decide the exit code."""
    if isinstance(environment.runner, WorkerRunner):
        environment.process_exit_code = 0
        return
    run, prepared = run_of(environment), _prepared[environment]
    metrics = summarise(run.tally, run.plan)
    verdicts = judge(prepared.slos, metrics)
    result = Result(
        title=run.config.title,
        question=f"What do clients get of a server under load: {run.config.kind.summary}?",
        command=shlex.join(["locust", *without_secrets(sys.argv[1:])]),
        config=run.config.public(),
        duration_s=run.plan.duration_s,
        models=run.models,
        tally=run.tally,
        metrics=metrics,
        verdicts=verdicts,
    )
    page, record = write_report(result, run.config.report)
    print(f"{result.title}: {result.verdict}\nreport: {page}\nrecord: {record}")
    environment.process_exit_code = exit_code(metrics, verdicts)


def config_of(environment: Environment, sent: dict[str, Any] | None = None) -> RunConfig:
    """The options, and over them what a master has sent. Raises ValueError."""
    options = dict(vars(environment.parsed_options))
    options["url"] = options["url"] or environment.host or ""
    return from_options(options | (sent or {}))


def act(environment: Environment, run: Run, prepared: Prepared) -> None:
    """Do to the server what the plan says, each thing at its time."""
    began_s = time.perf_counter()
    for action in run.plan.actions:
        gevent.sleep(max(began_s + action.at_s - time.perf_counter(), 0.0))
        deed = prepared.director.do(action, time.perf_counter() - began_s)
        run.tally.deeds.append(deed)
        notify_deed(environment, deed)


def watch(server: LocalServer, run: Run) -> None:
    """Read what the server uses, in a thread: it takes some tens of milliseconds."""
    began_s = time.perf_counter()
    every_s = max(run.plan.duration_s / _READINGS, _READ_EVERY_S)
    pool = gevent.get_hub().threadpool
    while True:
        try:
            run.tally.readings += pool.apply(server.read, (time.perf_counter() - began_s,))
        except psutil.Error:
            return
        gevent.sleep(every_s)
