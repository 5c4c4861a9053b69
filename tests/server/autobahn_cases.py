"""Runs the Autobahn suite's cases against ``/ws/tts``: ``python autobahn_cases.py PORT`` prints the verdicts as JSON.

The cases want a server that sends every message back, and ours answers what it does not understand with an error,
once for each message. Between the two stands a proxy that passes every byte of the client and every control frame on
as it is, drops the greeting, and puts the message in the place of the error. A process of its own, because the suite
changes the interpreter that it runs in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import Awaitable
from functools import partial
from typing import Any

from kosoku import FailureError, run_fuzzingclient
from ws_helpers import frame

LEFT_OUT = ["9.*", "12.*", "13.*"]
"""Messages beyond the limit of 1 MiB, and compression, which the server does not offer."""
CONTROL = 8
Frame = tuple[int, bytes, bytes]


async def read_frame(reader: StreamReader) -> Frame:
    """The first byte of the next frame, its payload without a mask, and all of it as it came."""
    raw = head = await reader.readexactly(2)
    length = head[1] & 0x7F
    if length > 125:
        extended = await reader.readexactly(2 if length == 126 else 8)
        raw, length = raw + extended, int.from_bytes(extended)
    mask = await reader.readexactly(4 if head[1] & 0x80 else 0)
    payload = await reader.readexactly(length)
    shown = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload)) if any(mask) else payload
    return head[0], shown, raw + mask + payload


class Conversation:
    """One client, and the connection to the server that is its own."""

    def __init__(self, client: StreamWriter, server: StreamWriter) -> None:
        self.client, self.server = client, server
        self.messages: list[tuple[int, bytes]] = []
        """What the client has said and the server has not answered."""
        self.from_client = StreamReader(limit=2**24)

    async def forward(self, reader: StreamReader) -> None:
        """From the client to the server, whatever it is, as soon as it comes."""
        while data := await reader.read(65_536):
            self.from_client.feed_data(data)
            self.server.write(data)

    async def listen(self) -> None:
        """Notes the client's whole messages."""
        opcode, said = 0, b""
        while True:
            first, payload, _ = await read_frame(self.from_client)
            if (kind := first & 0x0F) >= CONTROL:
                continue
            opcode, said = kind or opcode, said + payload
            if first & 0x80:
                self.messages.append((opcode, said))
                said = b""

    async def answer(self, reader: StreamReader) -> None:
        """From the server to the client."""
        greeted = False
        while True:
            first, _, raw = await read_frame(reader)
            if first & 0x0F >= CONTROL:
                self.client.write(raw)
            elif greeted:
                self.client.write(frame(*self.messages.pop(0), masked=False))
            greeted = greeted or first & 0x0F < CONTROL


async def ended(work: Awaitable[None], other: StreamWriter) -> None:
    """Closes the other side when one has ended."""
    with contextlib.suppress(IncompleteReadError, ConnectionError):
        await work
    with contextlib.suppress(ConnectionError):
        other.close()


async def relay(port: int, from_client: StreamReader, client: StreamWriter) -> None:
    """Passes the handshake on, then the frames."""
    from_server, server = await asyncio.open_connection("127.0.0.1", port)
    for reader, writer in ((from_client, server), (from_server, client)):
        writer.write(await reader.readuntil(b"\r\n\r\n"))
    talk = Conversation(client, server)
    listening = asyncio.create_task(talk.listen())
    await asyncio.gather(ended(talk.forward(from_client), server), ended(talk.answer(from_server), client))
    listening.cancel()


async def judged(url: str, **options: Any) -> list[Any]:
    """The results of cases, whether they pass or not."""
    try:
        return list(await run_fuzzingclient(url, **options))
    except FailureError as failure:
        return list(failure.results)


async def main(port: int) -> None:
    """Prints each case's verdicts on the messages and on the close."""
    proxy = await asyncio.start_server(partial(relay, port), "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/ws/tts"
    results = await judged(url, exclude_cases=LEFT_OUT, concurrency=4)
    if failed := [one.case_id for one in results if not one.passed]:
        # The suite has a clock of its own, of a second, which runs out on a busy machine.
        again = {one.case_id: one for one in await judged(url, cases=failed)}
        results = [again.get(one.case_id, one) for one in results]
    verdicts = {one.case_id: (one.behavior.value, one.behavior_close.value, one.passed) for one in results}
    print(json.dumps(verdicts), flush=True)
    # The runner's own threads do not outlive an interpreter that ends in order.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
