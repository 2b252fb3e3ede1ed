"""``python -m smtpprobe`` is the ``smtpprobe`` command."""

import sys

from smtpprobe.cli import main

sys.exit(main())
