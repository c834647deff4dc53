"""A TCP proxy that delays, and resets, what goes through it; runs on a loop in a thread of its own."""

import asyncio
import contextlib
import socket
import struct
import threading


class Proxy:
    """Listens on `port`, and forwards to `target`, the answers `delay_seconds` later."""

    def __init__(self, target: int, delay_seconds: float = 0.0) -> None:
        self.target, self.delay_seconds = target, delay_seconds
        self.connections = 0
        self.refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]

    def reset_all(self) -> None:
        """Every connection ends with a RST."""

        async def reset():
            for writer in list(self._writers):
                sock = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

        self._do(reset())

    def close(self) -> None:
        async def shut():
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._do(shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        try:
            if self.refuses:
                return
            behind, there = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(there)
            await asyncio.gather(self._forward(reader, there, 0.0), self._forward(behind, writer, self.delay_seconds))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _forward(self, reader, writer, delay):
        try:
            while data := await reader.read(65536):
                if delay:
                    await asyncio.sleep(delay)
                writer.write(data)
                await writer.drain()
        finally:
            self._writers.discard(writer)
            writer.close()
