"""Mail servers that no package provides: one that says nothing, one that repeats the login in its refusal.

Usage: python3 oddserver.py ADDRESS SILENT_PORT ECHO_PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept, read what comes, never answer."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(4096):
            pass
    writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A session without TLS that refuses every login and repeats the client's line in the refusal."""

    async def say(*lines: str) -> None:
        for number, line in enumerate(lines, 1):
            writer.write((line[:3] + (" " if number == len(lines) else "-") + line[4:] + "\r\n").encode("latin-1"))
        await writer.drain()

    async def hear() -> str:
        return (await reader.readline()).decode("latin-1").rstrip("\r\n")

    with contextlib.suppress(ConnectionError):
        await say("220 odd.test ESMTP")
        while line := await hear():
            verb, _, rest = line.partition(" ")
            match verb.upper():
                case "EHLO":
                    await say("250 odd.test", "250 AUTH PLAIN LOGIN", "250 8BITMIME")
                case "AUTH":
                    said = [rest]
                    if rest.upper() == "LOGIN":
                        for prompt in ("334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"):
                            await say(prompt)
                            said.append(await hear())
                    elif rest.upper() == "PLAIN":
                        await say("334 ")
                        said.append(await hear())
                    await say(f"535 5.7.8 cannot log in with AUTH {' '.join(said)}")
                case "QUIT":
                    await say("221 bye")
                    break
                case _:
                    await say("530 5.7.0 Authentication required")
    writer.close()


async def main(address: str, silent_port: int, echo_port: int) -> None:
    """Serve both until killed."""
    first = await asyncio.start_server(silent, address, silent_port)
    second = await asyncio.start_server(echo, address, echo_port)
    async with first, second:
        await first.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
