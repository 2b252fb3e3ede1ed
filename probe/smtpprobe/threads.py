"""Blocking work beside the session, in a thread that nobody waits for at exit."""

import _thread
import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def beside(work: Callable[[], T]) -> "asyncio.Future[T]":
    """Run ``work`` in a thread, begun when the caller next waits; its result or exception comes as a future.

    An executor's threads would hold the process at exit, and importing it costs a pod's start 3 ms. A ``Thread`` would
    not let its caller go on before it has begun: that holds up a packet by as much as 5 ms.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(value: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, failed = None, None
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            failed = error
        with suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(deliver, value, failed)

    _thread.start_new_thread(run, ())
    return future
