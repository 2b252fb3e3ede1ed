"""Run commands one after the other as told on standard input, from a small parent.

The kernel counts what a process held before exec into its peak: under a large parent each child shows the parent's.
Line in: JSON of [argv, environment]; line out: JSON of [wall, cpu, peak KiB, exit code].
"""

import json
import os
import sys
import time

NOTHING = os.open(os.devnull, os.O_RDWR)

for line in sys.stdin:
    argv, environment = json.loads(line)
    actions = [(os.POSIX_SPAWN_DUP2, NOTHING, number) for number in range(3)]
    start = time.perf_counter()
    child = os.posix_spawnp(argv[0], argv, environment, file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    code = os.waitstatus_to_exitcode(status)
    print(json.dumps([wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, code]), flush=True)
