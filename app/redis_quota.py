"""The use of keys in Redis or Valkey, right across all doors: one script call a key.

    <prefix>:quota:{<key id>}:rate     hash with a time to live   r, t: when each bucket is full
    <prefix>:quota:{<key id>}:streams  zset with a time to live   request/choice -> end of its lease

All times are the server's, in microseconds. Both keys of an API key lie in one slot of a cluster.
A server short of memory may evict them: that forgets use, never a limit.
"""

from collections.abc import Sequence
from urllib.parse import quote

from adapter_cache.redis_round_trip import Command, RedisRoundTrip
from app.quota import PERIOD_US, STREAM_WAIT_US, Bill, Limit, Outcome

# ARGV: requests and tokens a minute and most streams (-1: no limit), the length of a lease, the
# number of releases, then (id, streams, reserved, used) of each, then (id, streams, tokens) of each
# charge. Four numbers come back for each charge: what refused it, the wait, and how long until the
# two buckets are full. `app.quota.KeyUsage` says the same at leisure.
SETTLE = f"""
local PERIOD, STREAM_WAIT = {PERIOD_US}, {STREAM_WAIT_US}
local max_requests, max_tokens = tonumber(ARGV[1]), tonumber(ARGV[2])
local max_streams, lease = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local full = redis.call('HMGET', KEYS[1], 'r', 't')
local requests = math.max(tonumber(full[1] or 0), now)
local tokens = math.max(tonumber(full[2] or 0), now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)

local function cost(amount, limit)
  if limit < 0 then return 0 end
  return math.ceil(amount * PERIOD / limit)
end

local at = 6
for _ = 1, tonumber(ARGV[5]) do
  local id, streams = ARGV[at], tonumber(ARGV[at + 1])
  local held = redis.call('ZREM', KEYS[2], id .. '/0')
  for number = 1, streams - 1 do redis.call('ZREM', KEYS[2], id .. '/' .. number) end
  if held == 1 then
    local reserved, used = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    tokens = math.max(tokens - (cost(reserved, max_tokens) - cost(used, max_tokens)), now)
  end
  at = at + 4
end

local replies, num_streams, added = {{}}, redis.call('ZCARD', KEYS[2]), false
while at <= #ARGV do
  local id, streams, wanted = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local refused, wait = {Limit.NONE:d}, 0
  if not redis.call('ZSCORE', KEYS[2], id .. '/0') then
    local next_requests = requests + cost(1, max_requests)
    local next_tokens = tokens + cost(wanted, max_tokens)
    wait = math.max(0, next_requests - now - PERIOD, next_tokens - now - PERIOD)
    if next_requests - now > PERIOD then
      refused = {Limit.REQUESTS:d}
    elseif next_tokens - now > PERIOD then
      refused = {Limit.TOKENS:d}
    elseif max_streams >= 0 and num_streams + streams > max_streams then
      refused, wait = {Limit.STREAMS:d}, STREAM_WAIT
    else
      requests, tokens = next_requests, next_tokens
      num_streams = num_streams + streams
      for number = 0, streams - 1 do
        redis.call('ZADD', KEYS[2], string.format('%.0f', now + lease), id .. '/' .. number)
      end
      added = true
    end
  end
  replies[#replies + 1] = refused
  replies[#replies + 1] = wait
  replies[#replies + 1] = requests - now
  replies[#replies + 1] = tokens - now
  at = at + 3
end

if added then redis.call('PEXPIRE', KEYS[2], math.ceil(lease / 1000) + 1000) end
local last = math.max(requests, tokens)
if last > now then
  local r, t = string.format('%.0f', requests), string.format('%.0f', tokens)
  redis.call('HSET', KEYS[1], 'r', r, 't', t)
  redis.call('PEXPIRE', KEYS[1], math.ceil((last - now) / 1000) + 1000)
else
  redis.call('DEL', KEYS[1])
end
return replies
"""


class RedisLedger:
    """QuotaLedger whose commands share `trip`. `lease_s` bounds how long a request may run."""

    def __init__(self, trip: RedisRoundTrip, lease_s: float, key_prefix: str = "flora") -> None:
        self._trip = trip
        self._lease_us = int(lease_s * 1e6)
        self._prefix = key_prefix
        self._script = trip.script(SETTLE)

    async def settle(self, bills: Sequence[Bill]) -> list[list[Outcome]]:
        """See QuotaLedger."""
        replies = await self._trip.ask([self._command(bill) for bill in bills])
        return [outcomes_of(reply) for reply in replies]

    def __repr__(self) -> str:
        return f"<RedisLedger {self._prefix!r}>"

    def _command(self, bill: Bill) -> Command:
        of_key = f"{self._prefix}:quota:{{{quote(bill.key_id, safe='')}}}"
        rate, streams = f"{of_key}:rate", f"{of_key}:streams"
        return ("EVALSHA", self._script, 2, rate, streams, *arguments_of(bill, self._lease_us))


def arguments_of(bill: Bill, lease_us: int) -> list[str | int]:
    """ARGV of the script."""
    quota = bill.quota
    limits = (quota.requests_per_min, quota.tokens_per_min, quota.max_streams)
    words: list[str | int] = [-1 if limit is None else limit for limit in limits]
    words += [lease_us, len(bill.releases)]
    for end in bill.releases:
        words += [end.request_id, end.num_streams, end.num_tokens, end.used_tokens]
    for charge in bill.charges:
        words += [charge.request_id, charge.num_streams, charge.num_tokens]
    return words


def outcomes_of(reply: Sequence[int]) -> list[Outcome]:
    """The script's answer, four numbers a charge."""
    quarters = [reply[at : at + 4] for at in range(0, len(reply), 4)]
    return [Outcome(Limit(refused), *rest) for refused, *rest in quarters]
