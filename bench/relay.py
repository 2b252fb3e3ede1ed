"""Carry IP packets between two TUN devices, each a fixed time after it came: a link with a delay and without loss.

Arguments: the two file descriptors, the seconds of one way.
"""

import os
import select
import sys
import time
from collections import deque

LEFT, RIGHT, DELAY = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
OTHER = {LEFT: RIGHT, RIGHT: LEFT}
on_the_way: deque[tuple[float, int, bytes]] = deque()
print("ready", flush=True)
while True:
    pause = max(0.0, on_the_way[0][0] - time.perf_counter()) if on_the_way else None
    for device in select.select(tuple(OTHER), (), (), pause)[0]:
        on_the_way.append((time.perf_counter() + DELAY, OTHER[device], os.read(device, 65536)))
    while on_the_way and on_the_way[0][0] <= time.perf_counter():
        _, device, packet = on_the_way.popleft()
        os.write(device, packet)
