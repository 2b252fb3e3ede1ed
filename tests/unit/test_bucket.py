"""The token bucket, with a clock of the test's own."""

import asyncio

import pytest

from smtpprobe_operator.bucket import TokenBucket


def test_burst_then_rate():
    """A burst goes at once, what follows waits one over the rate, and idle time never saves up more than the burst."""
    now = [0.0]
    bucket = TokenBucket(rate=2, burst=3, clock=lambda: now[0])
    assert [bucket.try_take() for _ in range(4)] == [True, True, True, False]
    assert bucket.wait() == pytest.approx(0.5)
    now[0] = 0.5
    assert bucket.try_take()
    now[0] = 1000.0
    assert [bucket.try_take() for _ in range(4)] == [True, True, True, False]


def test_many_takers_are_spaced():
    """Of many who ask at once each gets its token, no faster than the rate."""

    async def take_all():
        loop = asyncio.get_running_loop()
        bucket = TokenBucket(rate=100, burst=1, clock=loop.time)
        start = loop.time()
        await asyncio.gather(*(bucket.take() for _ in range(6)))
        return loop.time() - start

    assert asyncio.run(take_all()) >= 0.045
