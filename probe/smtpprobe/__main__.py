"""``python -m smtpprobe`` is the ``smtpprobe`` command."""

from smtpprobe.cli import run

run()
