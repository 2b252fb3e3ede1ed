"""Send with the printed settings.py, which DJANGO_SETTINGS_MODULE names. Arguments: name, recipient."""

import sys

import django
from django.core.mail import send_mail

name, recipient = sys.argv[1:]
django.setup()
try:
    send_mail("hi", "hi", None, [recipient])
    outcome = "sent"
except OSError as error:  # smtplib's and ssl's errors are
    outcome = " ".join(repr(error).split())
print(f"RESULT\t{name}\t{outcome}")
