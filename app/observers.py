"""Several observers as one, so that a token costs one call and not one for each of them."""

import logging

from app.request_observer import RequestEnd, RequestObserver
from contracts.access import Caller

_LOG = logging.getLogger(__name__)


class Observers:
    """All of them hear of beginnings and ends, `counter` alone of tokens.

    One that raises is logged and passed over.
    """

    def __init__(self, counter: RequestObserver, *others: RequestObserver) -> None:
        self._all = (counter, *others)
        self.generated = counter.generated

    def began(self, request_id: str, caller: Caller) -> None:
        """See RequestObserver."""
        for observer in self._all:
            try:
                observer.began(request_id, caller)
            except Exception:
                _LOG.exception("an observer of requests failed")

    def ended(self, request_id: str, caller: Caller, model: str, end: RequestEnd) -> None:
        """See RequestObserver."""
        for observer in self._all:
            try:
                observer.ended(request_id, caller, model, end)
            except Exception:
                _LOG.exception("an observer of requests failed")
