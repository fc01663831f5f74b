"""The plain file copy over HTTP that volumes are measured beside: GET and PUT of files in a folder, nothing else.

Run as `python -m bench.plain_files FOLDER`; it prints its address.
"""

import asyncio
import sys
from pathlib import Path

from aiohttp import web

CHUNK_BYTES = 256 * 1024


def build_app(folder: Path) -> web.Application:
    """Return the server's application."""

    async def put(request: web.Request) -> web.Response:
        with await asyncio.to_thread(open, folder / request.match_info["name"], "wb") as file:
            async for chunk in request.content.iter_chunked(CHUNK_BYTES):
                file.write(chunk)
        return web.Response(status=201)

    app = web.Application(client_max_size=0)
    app.router.add_put("/{name}", put)
    app.router.add_static("/", folder)
    return app


async def serve(folder: Path) -> None:
    """Serve until ended."""
    runner = web.AppRunner(build_app(folder), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"ready http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
