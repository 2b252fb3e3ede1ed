"""``smtpprobe check``: one session from this machine, with the same request and the same session as in a pod."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Any

from smtpprobe import credentials
from smtpprobe.advice import AdviceFacts, advise
from smtpprobe.arguments import build_request
from smtpprobe.credentials import Credentials
from smtpprobe.discovery import resolved
from smtpprobe.layout import WIDTH
from smtpprobe.model import PortFinding, ProbeRequest, ProbeResult, StageResult, TranscriptLine
from smtpprobe.output import EXIT_CODES, FORMATS, Output, Report
from smtpprobe.probing import probe
from smtpprobe.redact import clip
from smtpprobe.usage import UsageError, ask_secret, colour_wanted, terminal_width
from smtpprobe.vocabulary import Mode, StageOutcome

_TOLD_AT = 38  # the column of a progress line where what was answered begins


def read_password(source: str | None, username: str) -> str:
    """Read the password from a file, from standard input (``-``) or from a terminal; one trailing newline is dropped.

    Raises UsageError where there is neither a file nor a terminal to ask, and for what no login can carry.
    """
    if source is None:
        if not sys.stdin.isatty():
            raise UsageError(
                "--username needs --password-file FILE (or - for standard input): there is no terminal to ask"
            )
        password = ask_secret(f"Password of {username}: ")
        if problem := credentials.flaw(password):
            raise UsageError(f"the password {problem}")
        return password
    try:
        return credentials.read_password(source)
    except OSError as error:
        raise UsageError(f"--password-file {source}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--password-file {source}: {error}") from None


def stage_line(stage: StageResult, width: int) -> str:
    """One progress line of at most ``width`` columns: the stage, its time, and what was answered."""
    name = f"{stage.stage.value}{' after TLS' if stage.after_tls else ''}"
    said = stage.detail or (f"{stage.reply.code} {' '.join(stage.reply.lines)}" if stage.reply else "")
    return f"{name:18} {stage.outcome.value:7} {stage.elapsed_ms:6} ms  {clip(said, width - _TOLD_AT)}".rstrip()


def credentials_of(options: argparse.Namespace) -> Credentials | None:
    """Return the login that the arguments give, None for none."""
    if options.username is not None:
        if problem := credentials.flaw(options.username):
            raise UsageError(f"--username {problem}")
        return Credentials(options.username, read_password(options.password_file, options.username))
    if options.password_file is not None:
        raise UsageError("--password-file has no --username NAME beside it")
    return None


async def check(options: argparse.Namespace) -> int:
    """Run the check and print it; returns the exit code of its outcome."""
    request = build_request(options)
    login = credentials_of(options)
    lines: list[TranscriptLine] = []
    sinks: dict[str, Any] = {"on_stage": progress(options), "on_port": port_progress(options)}
    result = await probe(request, login, on_line=lines.append, stop=told_to_end(), alone=True, **sinks)
    if request.mode is Mode.AUTO:
        request = resolved(request, result)
        if request.mode is not Mode.AUTO:
            print(f"smtpprobe: found {request.mode} on port {request.port}; --mode names another", file=sys.stderr)
    show(options, (report_of(options, request, result, tuple(lines)),))
    if options.settings:
        from smtpprobe.settings_command import after_check

        after_check(request, result, options.username, Output(options.output))
    return EXIT_CODES[result.outcome]


def told_to_end() -> asyncio.Event:
    """Return what SIGTERM, SIGHUP and Ctrl-C set: the check ends with what there is, said in the wanted form.

    A signal that whoever started us has told to be ignored stays so (``nohup``, a shell's ``&``).
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def progress(options: argparse.Namespace) -> Callable[[StageResult], None] | None:
    """Return the printer of stages as they end: on a terminal only, on stderr."""
    if options.no_progress or not sys.stderr.isatty():
        return None

    width = terminal_width(sys.stderr) or WIDTH

    def show_stage(stage: StageResult) -> None:
        if stage.outcome is not StageOutcome.NOT_REACHED:
            print(stage_line(stage, width), file=sys.stderr, flush=True)

    return show_stage


def port_progress(options: argparse.Namespace) -> Callable[[PortFinding], None] | None:
    """Return the printer of ports as they are done with: on a terminal only, on stderr."""
    if options.no_progress or not sys.stderr.isatty():
        return None
    from smtpprobe.discovery_text import row

    return lambda port: print(row(port), file=sys.stderr, flush=True)


def report_of(
    options: argparse.Namespace, request: ProbeRequest, result: ProbeResult, lines: tuple[TranscriptLine, ...]
) -> Report:
    """Put a result together with what to do about it; ``request`` as mode auto resolved it."""
    advice = None
    if result.verdict is not None:
        advice = advise(result.verdict.reason, AdviceFacts.of(request, result), options.lang)
    return Report(request=request, result=result, advice=advice, lang=options.lang, transcript=lines)


def show(options: argparse.Namespace, reports: tuple[Report, ...]) -> None:
    """Print results in the wanted form."""
    output = Output(options.output)
    if output is Output.TEXT:
        from smtpprobe.report import text

        for one in reports:
            look: dict[str, Any] = {"colour": colour_wanted(), "width": terminal_width()}
            print(text(one.result, one.request, lang=options.lang, transcript=one.transcript, **look))
    else:
        print(FORMATS[output](reports))
