"""The process in the probe pod: ``python -m smtpprobe.pod``, exit 0 whenever there is a verdict, 1 where it broke.

It lives for a session. So garbage is not collected (its imports would be searched several times: a tenth of the
start), and at the end the kernel takes back at once what the interpreter would take apart piece by piece.
"""

import gc
import os
import sys


def main() -> int:
    """Run the request of the environment and write its result."""
    gc.disable()
    from smtpprobe import in_pod

    return in_pod.main()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
