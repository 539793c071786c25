"""GET /v1/usage: what tenants have used lately."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query

from app.door import Door
from app.http_auth import requires
from app.http_models import PageLimit
from app.recent_usage import UsageRow
from contracts.access import Caller, Scope
from contracts.adapters import TenantId
from contracts.errors import InvalidRequest

MAX_HOURS = 720
_HOUR_S = 3600
_TENANT_LENGTH = 64

Hours = Annotated[int, Query(ge=1, le=MAX_HOURS)]
Filter = Annotated[str | None, Query(max_length=_TENANT_LENGTH)]


def usage_routes(door: Door) -> APIRouter:
    """Usage as `door` reads it from the usage records of all doors."""
    router = APIRouter()
    reader = Annotated[Caller, Depends(requires(door, Scope.ADAPTERS_READ))]

    @router.get("/v1/usage")
    async def show_usage(
        caller: reader,
        hours: Hours = 24,
        by: Literal["tenant", "model"] = "tenant",
        tenant: Filter = None,
        limit: PageLimit = 100,
    ) -> dict[str, Any]:
        """The caller's own; of all tenants, or of `tenant`, with the scope `admin`."""
        if door.usage is None:
            raise InvalidRequest("this server keeps no usage records (usage.enabled is false)")
        everybody = caller.may(Scope.ADMIN)
        wanted = tenant if everybody else caller.tenant
        report = await door.usage.report(
            hours * _HOUR_S,
            tenant=None if wanted is None else TenantId(wanted),
            by_model=by == "model",
        )
        # Another's usage is as absent as that of nobody.
        rows = [row for row in report.rows if tenant in (None, row.tenant)]
        return {
            "object": "usage",
            "tenant": caller.tenant,
            "since": int(report.since_s),
            "until": int(door.clock()),
            "complete": report.is_complete,
            "data": [_entry(row) for row in rows[:limit]],
            "has_more": len(rows) > limit,
        }

    return router


def _entry(row: UsageRow) -> dict[str, Any]:
    return {
        "tenant": row.tenant,
        "model": row.model or None,
        "requests": row.use.num_requests,
        "prompt_tokens": row.use.num_prompt_tokens,
        "cached_tokens": row.use.num_cached_tokens,
        "generated_tokens": row.use.num_generated_tokens,
    }
