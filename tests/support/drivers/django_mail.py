"""Send with each printed settings.py, in a process of its own as Django wants it. Lines of stdin: name, file, recipient."""

import os
import sys
from pathlib import Path

import django
from django.core.mail import send_mail
from django.core.mail.backends import smtp  # noqa: F401 - once, before the forks


def send(name: str, file: Path, recipient: str) -> None:
    sys.path.insert(0, str(file.parent))
    os.environ["DJANGO_SETTINGS_MODULE"] = file.stem
    django.setup()
    try:
        send_mail("hi", "hi", None, [recipient])
        outcome = "sent"
    except OSError as error:  # smtplib's and ssl's errors are
        outcome = " ".join(repr(error).split())
    print(f"RESULT\t{name}\t{outcome}", flush=True)


for line in sys.stdin:
    name, file, recipient = line.rstrip("\n").split("\t")
    child = os.fork()
    if not child:
        send(name, Path(file), recipient)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"{name}: {status}")
