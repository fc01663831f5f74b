import { createServer as createHttpServer } from "node:http";
import net from "node:net";
import type { AddressInfo } from "node:net";

/** A server that nobody should ask: what comes to it has left the page. */
export interface Canary {
  url: string;
  asked: string[];
}

export async function canary(afterwards: (end: () => Promise<void>) => void): Promise<Canary> {
  const asked: string[] = [];
  const server = createHttpServer((request, reply) => {
    asked.push(`${request.method} ${request.url}`);
    reply.writeHead(200, { "access-control-allow-origin": "*", "content-type": "text/html" }).end("<p>canary</p>");
  });
  const url = await listening(server);
  afterwards(() => ended(server));
  return { url, asked };
}

/** A line to the product that can be cut: all connections break off, and new ones are refused until it is mended. */
export class Line {
  url = "";
  private readonly sockets = new Set<net.Socket>();
  private whole = true;

  static async to(target: string, afterwards: (end: () => Promise<void>) => void): Promise<Line> {
    const line = new Line();
    const { hostname, port } = new URL(target);
    const server = net.createServer((near) => {
      if (!line.whole) {
        near.destroy();
        return;
      }
      const far = net.connect(Number(port), hostname);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        line.sockets.add(from);
        from.on("error", () => to.destroy());
        from.on("close", () => {
          line.sockets.delete(from);
          to.destroy();
        });
        from.pipe(to);
      }
    });
    line.url = await listening(server);
    afterwards(async () => {
      line.cut();
      await ended(server);
    });
    return line;
  }

  cut(): void {
    this.whole = false;
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  mend(): void {
    this.whole = true;
  }
}

async function listening(server: net.Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function ended(server: net.Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  if ("closeAllConnections" in server) (server as { closeAllConnections(): void }).closeAllConnections();
  await closed;
}
