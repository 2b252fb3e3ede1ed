"""The operator killed before and after each of its writes: the end is the same, and no run takes place twice."""

import asyncio
import re
from collections import Counter

import liveapi as live
from answers import PLAIN, failed, passed
from proxy import Call, StoppedError

from smtpprobe.vocabulary import Reason

AT_ONCE = 3
TIMES = re.compile(r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d(\.\d+)?Z?|smtpprobe-[0-9a-f]{20}(-\w{5})?")


def answer(run, request):
    return failed(Reason.RELAY_DENIED) if run.trigger == "now:fail" else passed()


async def golden_run(arena):
    """First run, failure, recovery, run-now, spec change."""
    uid = await arena.apply("p", PLAIN)
    await arena.ran("p", "slot:0")
    for value in ("fail", "recover", "again"):
        await arena.run_now("p", value)
        await arena.ran("p", f"now:{value}")
    await arena.change("p", {"spec": {"port": 2525}})
    await arena.ran("p", "slot:0", generation=2)
    return uid


def plain(value):
    """A status without times, pod names and lengths of runs."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key not in {"ms", "elapsedMs"}}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return TIMES.sub("*", value) if isinstance(value, str) else value


async def state(arena, uid):
    body = await arena.read("p")
    runs = Counter((run.trigger, run.generation, run.attempt) for run in map(live.run_of, await arena.jobs(uid)))
    events = Counter(
        (event["reason"], plain(event["note"]), (event.get("series") or {}).get("count", 1))
        for event in await arena.events()
    )
    return plain(body["status"]), runs, events


async def keep_running(process, cut):
    """Restart the operator after it was killed, as a Deployment would."""
    await cut.wait()
    await process.ended()
    await process.start()


async def one_pass(number, when):
    """Run the golden run with the operator killed at one call; returns the final state."""
    cut = asyncio.Event()
    async with live.arena(answer) as arena:

        async def hook(call: Call) -> None:
            if call.number == number and not cut.is_set():
                arena.process.kill()
                cut.set()
                raise StoppedError

        setattr(arena.proxy, when, hook)
        again = asyncio.create_task(keep_running(arena.process, cut))
        uid = await golden_run(arena)
        await asyncio.wait_for(again, 60)
        await arena.ready()
        await arena.quiet()
        return await state(arena, uid)


async def scenario():
    async with live.arena(answer) as arena:
        uid = await golden_run(arena)
        await arena.quiet()
        golden, kinds = await state(arena, uid), [call.kind for call in arena.proxy.calls]
    assert max(golden[1].values()) == 1
    print(f"golden run: {len(kinds)} writes: {' '.join(kinds)}")
    slots = asyncio.Semaphore(AT_ONCE)

    async def limited(number, when):
        async with slots:
            return await one_pass(number, when)

    cuts = [(number, when) for number in range(len(kinds)) for when in ("before", "after")]
    ends = await asyncio.gather(*(limited(*cut) for cut in cuts), return_exceptions=True)
    same = sum(1 for end in ends if end == golden)
    print(f"same end and one Job a trigger: {same} of {len(cuts)} cuts")
    for cut, end in zip(cuts, ends, strict=True):
        if end != golden:
            print(cut, kinds[cut[0]], end)
    assert same == len(cuts)
    return kinds


def test_killed_at_every_write():
    """Killed right before and right after each write, the operator comes to the same status, Jobs and events."""
    kinds = asyncio.run(scenario())
    assert len(kinds) >= 12
