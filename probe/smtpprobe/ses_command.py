"""``smtpprobe ses-password``: the SMTP password that Amazon SES wants, from an IAM secret, for one region."""

import argparse
import sys

from smtpprobe import ses
from smtpprobe.credentials import read_password
from smtpprobe.usage import UsageError, ask_secret


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    command.add_argument(
        "--region", required=True, metavar="REGION", help="the part after email-smtp. in the host name, e.g. eu-west-1"
    )
    command.add_argument(
        "--secret-file",
        metavar="FILE",
        help="holds the IAM secret access key; - reads standard input; a terminal is asked if this is left out",
    )


def ses_password(options: argparse.Namespace) -> int:
    """Print the password on stdout and nothing else there; returns 0.

    Raises UsageError for a region or a secret that cannot be meant.
    """
    known = ses.endpoint(options.region)
    region = known.region if known else options.region
    if not ses.is_region(region):
        raise UsageError(f"--region {region!r} is no region: write the one in the host name, such as eu-west-1")
    secret = _secret(options.secret_file)
    if ses.is_smtp_password(secret):
        raise UsageError("this is an SMTP password of SES already (44 characters): give the IAM secret access key")
    if secret != secret.strip():
        raise UsageError("the secret begins or ends with white space: write it again without")
    if ses.is_access_key_id(secret):
        raise UsageError("this is an access key id (AKIA…), which is the user name: give the secret that belongs to it")
    if not ses.is_iam_secret(secret):
        hint = f"an IAM secret access key has {ses.SECRET_LENGTH} characters, this one has {len(secret)}"
        print(f"smtpprobe ses-password: {hint}", file=sys.stderr)
    print(ses.smtp_password(secret, region))
    return 0


def _secret(source: str | None) -> str:
    if source is None:
        if not sys.stdin.isatty():
            raise UsageError("give --secret-file FILE (or - for standard input): there is no terminal to ask")
        secret = ask_secret("IAM secret access key: ")
        if not secret:
            raise UsageError("no secret was given")
        return secret
    try:
        return read_password(source)
    except OSError as error:
        raise UsageError(f"--secret-file {source}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--secret-file {source}: {str(error).replace('the password', 'the secret')}") from None
