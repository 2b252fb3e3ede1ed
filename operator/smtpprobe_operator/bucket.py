"""A token bucket: how often something may happen, with a burst."""

import asyncio
from collections.abc import Callable


class TokenBucket:
    """``rate`` tokens a second, ``burst`` at most; ``clock`` gives seconds that never go back."""

    def __init__(self, *, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()
        self._turn = asyncio.Lock()

    def wait(self) -> float:
        """Seconds until a token is there; 0.0 where one can be taken now."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def try_take(self) -> bool:
        if self.wait() > 1e-9:
            return False
        self._tokens -= 1.0
        return True

    async def take(self) -> None:
        """Wait for a token; who asks first is served first."""
        async with self._turn:
            if not self.try_take():
                await asyncio.sleep(self.wait())
                self._tokens -= 1.0
