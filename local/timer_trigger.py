"""Timer triggers: NCRONTAB schedules, with the state that lets a missed run be caught up.

The rules are those of ``TimerListener`` and ``ScheduleMonitor`` in Azure/azure-webjobs-sdk-extensions: one
run of a timer at a time; the next occurrence is reckoned from when the last run began, and is due at once if
that run took longer; a run that came due while the host was down is made at start, marked past due. Times are
UTC. The state, which Azure keeps in a blob, is a JSON file here.
"""

import asyncio
import json
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from croniter import CroniterError, croniter

from local import rpc
from local.functions import Function, FunctionInError
from local.host_log import HostLog
from local.invocation import Invoker, new_trace_parent

_NEVER = datetime(1, 1, 1, tzinfo=UTC)
_FIELD = re.compile(r"[0-9*,/\-]+")
_NAMED = re.compile(r"[0-9A-Za-z*,/\-]+")
_LONGEST_SLEEP = 30.0
"""Seconds between looks at the clock, which a laptop's sleep may have moved."""


class Schedule:
    """An NCRONTAB expression: ``{second} {minute} {hour} {day} {month} {day of week}``, or without seconds.

    Day and day of week must both match, as in the NCrontab library; ``croniter`` would take either.
    """

    def __init__(self, expression: str) -> None:
        fields = expression.split()
        names = [_FIELD] * (len(fields) - 2) + [_NAMED, _NAMED]
        try:
            known = len(fields) in (5, 6) and all(
                pattern.fullmatch(text) for pattern, text in zip(names, fields, strict=True)
            )
            known = known and all(int(day) <= 6 for day in re.findall(r"\d+", fields[-1].split("/")[0]))
            known = known and bool(croniter(expression, second_at_beginning=True))
        except (CroniterError, ValueError):
            known = False
        if not known:
            raise FunctionInError(
                f"The schedule expression '{expression}' was not recognized as a valid cron expression "
                "or timespan string."
            )
        self.expression = expression

    def after(self, moment: datetime) -> datetime:
        """The first occurrence after a moment."""
        iterator = croniter(
            self.expression, moment, ret_type=datetime, day_or=False, second_at_beginning=True
        )
        occurrence: datetime = iterator.get_next(datetime)
        return occurrence

    def is_frequent(self, moment: datetime) -> bool:
        """Whether occurrences are less than a minute apart: too often to keep account of."""
        first = self.after(moment)
        return self.after(first) - first < timedelta(minutes=1)


@dataclass
class Status:
    """What is known of a timer: the ``ScheduleStatus`` that the function is given."""

    last: datetime
    next: datetime
    last_updated: datetime

    def to_json(self) -> dict[str, str]:
        """As the host writes it."""
        return {"Last": _text(self.last), "Next": _text(self.next), "LastUpdated": _text(self.last_updated)}


def _text(moment: datetime) -> str:
    return moment.isoformat()


@dataclass
class TimerState:
    """The file that remembers timers from one run of the host to the next."""

    path: Path
    _timers: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return  # nothing yet, or nothing of use: as if the app were new
        if isinstance(content, dict):
            self._timers = {name: entry for name, entry in content.items() if isinstance(entry, dict)}

    def read(self, function: str, schedule: Schedule) -> Status | None:
        """What is remembered of a timer, unless its schedule has changed since."""
        entry = self._timers.get(function)
        if entry is None or entry.get("Schedule") != schedule.expression:
            return None
        try:
            moments = [datetime.fromisoformat(entry[name]) for name in ("Last", "Next", "LastUpdated")]
        except (KeyError, ValueError):
            return None
        return Status(*moments)

    def write(self, function: str, schedule: Schedule, status: Status) -> None:
        """Remember a timer."""
        self._timers[function] = {"Schedule": schedule.expression, **status.to_json()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(f".{os.getpid()}.new")
        new.write_text(json.dumps(self._timers, indent=2), encoding="utf-8")
        new.replace(self.path)


class TimerListener:
    """Runs one function when it is time."""

    def __init__(self, function: Function, invoker: Invoker, log: HostLog, state: TimerState) -> None:
        self._function = function
        self._invoker = invoker
        self._log = log
        self._schedule = Schedule(str(function.trigger["schedule"]))
        now = datetime.now(UTC)
        monitored = function.trigger.get("useMonitor") is not False and not self._schedule.is_frequent(now)
        self._state = state if monitored else None
        self._turn = asyncio.Lock()
        self.occurring: asyncio.Task[None] | None = None
        """The latest scheduled run, which may be over."""
        self._status = Status(last=_NEVER, next=self._schedule.after(now), last_updated=_NEVER)

    async def listen(self) -> None:
        """Run it whenever it is due, until cancelled."""
        past_due = False
        if self._state is not None:
            stored = self._state.read(self._function.name, self._schedule)
            if stored is None:
                self._remember()
            else:
                self._status = stored
                past_due = datetime.now(UTC) > stored.next
        self._log.info(f"The next occurrence is {_text(self._status.next)}", function=self._function.name)
        if past_due:
            self._log.info("Function is past due on startup. Executing now.", function=self._function.name)
            await self._let_occur(past_due=True)
        elif self._function.trigger.get("runOnStartup"):
            self._log.info(
                "Function is configured to run on startup. Executing now.", function=self._function.name
            )
            await self._let_occur(at_startup=True)
        while True:
            wait = (self._status.next - datetime.now(UTC)).total_seconds()
            if wait > 0:
                await asyncio.sleep(min(wait, _LONGEST_SLEEP))
            else:
                await self._let_occur()

    async def _let_occur(self, *, past_due: bool = False, at_startup: bool = False) -> None:
        """Run it in a task of its own: a host that stops lets the run end, but starts none after it."""
        self.occurring = asyncio.create_task(self._occur(past_due=past_due, at_startup=at_startup))
        await asyncio.shield(self.occurring)

    async def _occur(self, *, past_due: bool = False, at_startup: bool = False) -> None:
        began = datetime.now(UTC)
        await self.run(f"Timer fired at {_text(began)}", past_due=past_due)
        if not past_due and not at_startup:
            began = max(began, self._status.next)
        self._status = Status(last=began, next=self._schedule.after(began), last_updated=began)
        self._remember()

    def _remember(self) -> None:
        if self._state is None:
            return
        try:
            self._state.write(self._function.name, self._schedule, self._status)
        except OSError as error:
            self._log.warning(f"The timer's state cannot be kept: {error}", function=self._function.name)

    async def run(self, reason: str, *, past_due: bool = False) -> None:
        """Run it now, with the retries its policy grants."""
        info: dict[str, Any] = {
            "Schedule": {"AdjustForDST": False},
            "ScheduleStatus": None if self._state is None else self._status.to_json(),
            "IsPastDue": past_due,
        }
        policy = self._function.retry
        context = rpc.RetryContext(max_retry_count=policy.max_retry_count if policy else 0)
        trace_parent = new_trace_parent()
        async with self._turn:
            while True:
                run = await self._invoker.run(
                    self._function,
                    rpc.TypedData(json=json.dumps(info)),
                    reason=reason,
                    details="UnscheduledInvocationReason: IsPastDue" if past_due else "",
                    trace_parent=trace_parent,
                    retry=context,
                )
                if run.succeeded or policy is None:
                    return
                if policy.max_retry_count >= 0 and context.retry_count >= policy.max_retry_count:
                    return
                context = rpc.RetryContext(
                    retry_count=context.retry_count + 1,
                    max_retry_count=policy.max_retry_count,
                    exception=run.error or rpc.RpcException(),
                )
                delay = retry_delay(policy, context.retry_count)
                self._log.info(
                    f"Waiting for {delay} before retrying function execution. "
                    f"Next attempt: {context.retry_count}. Max retry count: {policy.max_retry_count}",
                    function=self._function.name,
                )
                await asyncio.sleep(delay.total_seconds())


def retry_delay(policy: rpc.RpcRetryOptions, attempt: int) -> timedelta:
    """How long to wait before a retry, counted from one.

    Fixed, or doubling from the least to the greatest interval.
    """
    if policy.retry_strategy == "fixed_delay":
        return policy.delay_interval or timedelta(0)
    least = policy.minimum_interval or timedelta(0)
    most = policy.maximum_interval or timedelta.max
    step: timedelta = max(least, timedelta(seconds=1)) * min(2 ** (attempt - 1), 2**20)
    return min(max(step, least), most)
