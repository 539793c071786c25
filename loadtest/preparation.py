"""What has to be there before a run: the names of its models, and the adapters it publishes."""

import time
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx
import numpy as np

from loadtest.adapter_files import NUMBER_BITS, read_folders
from loadtest.control import Control, Models, own_names
from loadtest.director import Director, Uploads
from loadtest.local_server import LocalServer
from loadtest.plan import Plan
from loadtest.run_config import RunConfig
from loadtest.shapes import make_plan
from loadtest.slo import Slo, parse_slo


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that may begin. `watched` is the server whose processes are read, if they are."""

    config: RunConfig
    models: Models
    plan: Plan
    slos: tuple[Slo, ...]
    director: Director
    watched: LocalServer | None


def prepare(config: RunConfig) -> Prepared:
    """Ask the server for its models, publish, and plan.

    Raises ValueError, OSError and LookupError for a run that cannot be, httpx.HTTPError where the
    server refuses.
    """
    control = Control(config.url, config.api_key)
    server = find_server(config)
    director = make_director(config, control, server)
    models = find_models(config, control)
    if config.publish:
        director.publish_all(config.publish)
        names = [f"{models.base}:{name}" for name in own_names(config.publish)]
        models = Models(models.base, tuple(names))
    load = replace(config.load, num_adapters=len(models.adapters))
    config = replace(config, load=load)
    plan = plan_of(config)
    slos = tuple(parse_slo(text, plan.groups) for text in config.all_slos)
    is_watched = config.watch or config.kind.watches
    return Prepared(config, models, plan, slos, director, server if is_watched else None)


def plan_of(config: RunConfig) -> Plan:
    """The same in every process. Raises ValueError, OSError."""
    return make_plan(config.shape, config.load, np.random.default_rng(config.load.seed))


def find_models(config: RunConfig, control: Control) -> Models:
    """Those that were named; what was not, the server is asked for, unless it is LoRAX, which
    does not say. Raises httpx.HTTPError, ValueError.
    """
    if config.api == "lorax" or (config.model and config.adapters):
        return Models(config.model, config.adapters)
    named = control.models()
    return Models(config.model or named.base, config.adapters or named.adapters)


def make_director(config: RunConfig, control: Control, server: LocalServer | None) -> Director:
    """Who publishes and kills. Raises ValueError where there is nothing to publish."""
    now_s = time.time()
    uploads = None
    if config.publish:
        # Numbers that no earlier run has used: what is published anew must be new.
        uploads = Uploads(read_folders(config.uploads), int(now_s) % (1 << NUMBER_BITS))
    rng = np.random.default_rng(int(now_s))
    return Director(control, uploads, server, rng, config.kill_command)


def find_server(config: RunConfig) -> LocalServer | None:
    """The server's processes, where the run looks at them or kills one. Raises LookupError."""
    is_wanted = config.watch or config.kind.watches
    if is_wanted or (config.kind.kills and not config.kill_command):
        return LocalServer.find(urlsplit(config.url).port or 80, config.server_pid)
    return None


def reason(error: Exception) -> str:
    """Why a run cannot begin, for people."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"{error.request.method} {error.request.url}: {error.response.text[:300]}"
    if isinstance(error, httpx.HTTPError):
        return f"the server does not answer: {error}"
    return str(error)
