"""Log lines of this process: JSON or text, each with the request that it belongs to.

Neither form shows the message of an exception: a parser or a library may have put a prompt in it.
The type, and the place in the source, are shown.
"""

import json
import logging
import os
import queue
import sys
import traceback
from copy import copy
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from typing import Any

from app.request_context import current_request
from app.telemetry_config import LogSettings

OUR_PACKAGES = ("app", "replicas", "routing", "adapter_cache", "flora", "contracts")
_MAX_WAITING_LINES = 10_000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "facts"}


class LogQueue(QueueHandler):
    """Takes lines in the caller's thread and drops them when too many wait: logging never waits."""

    num_dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Everything that must be read now: arguments, the request at hand, the stack."""
        record = copy(record)
        record.msg, record.args = record.getMessage(), None
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = stack_of(record.exc_info[1])
        record.exc_info = None
        record.facts = facts_of(record)
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand over without waiting."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.num_dropped += 1


class _Listener(QueueListener):
    def enqueue_sentinel(self) -> None:
        # The queue may be full; the writer makes room.
        self.queue.put(None)  # type: ignore[attr-defined]


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time in UTC, level, logger, message, then what else is known."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **getattr(record, "facts", {}),
        }
        if record.exc_text:
            line["stack"] = record.exc_text
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message, and the rest as name=value."""
        facts = "".join(f" {k}={v}" for k, v in getattr(record, "facts", {}).items())
        text = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}{facts}"
        return f"{text}\n{record.exc_text}" if record.exc_text else text


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave as `extra`, over what the request at hand tells."""
    request = current_request()
    known = {
        "request_id": request.request_id,
        "tenant": request.caller.tenant if request.caller else "",
        "key_id": request.caller.key_id if request.caller else "",
        "trace_id": request.trace_id,
    }
    # A leading underscore marks what libraries hang on every record for themselves, as Ray does.
    given = {
        name: value
        for name, value in vars(record).items()
        if name not in _STANDARD and not name.startswith("_")
    }
    return {name: value for name, value in {**known, **given}.items() if value != ""}


def stack_of(error: BaseException) -> str:
    """Types and places of `error` and of what led to it, outermost last, without their messages."""
    parts: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        parts.append("".join(traceback.format_tb(link.__traceback__)) + type(link).__qualname__)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n\n".join(reversed(parts))


class Logs:
    """This process's log, from its making to `close`."""

    def __init__(self, settings: LogSettings, process: str) -> None:
        self._handler = LogQueue(queue.Queue(_MAX_WAITING_LINES))
        writer = _writer(settings, process)
        writer.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
        self._writer = writer
        self._listener = _Listener(self._handler.queue, writer)
        self._listener.start()
        root = logging.getLogger()
        root.addHandler(self._handler)
        root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[settings.level]))
        for name in OUR_PACKAGES:
            logging.getLogger(name).setLevel(settings.level)

    @property
    def num_dropped(self) -> int:
        """Lines that came faster than they could be written."""
        return self._handler.num_dropped

    def close(self) -> None:
        """Write what waits. Safe to call twice."""
        root = logging.getLogger()
        if self._handler in root.handlers:
            root.removeHandler(self._handler)
            self._listener.stop()
            self._writer.close()


def _writer(settings: LogSettings, process: str) -> logging.Handler:
    if settings.folder is None:
        # Ray Serve puts a logger in the place of sys.stderr, and drops what it is given.
        return logging.StreamHandler(sys.__stderr__)
    settings.folder.mkdir(parents=True, exist_ok=True)
    path = settings.folder / f"{process}-{os.getpid()}.log"
    return RotatingFileHandler(path, maxBytes=settings.max_file_bytes, backupCount=1)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
