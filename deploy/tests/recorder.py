"""Stands where the services stand behind the proxy: prints every request that arrives, one JSON line each, answers 200.

Reads exactly what the framing says and takes the rest of the connection for the next request, so that a request that
was smuggled past the proxy shows.
"""

import json
import socketserver

PORTS = (8080, 8081)


class Recorder(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline():
            headers: list[tuple[str, str]] = []
            while (header := self.rfile.readline()) not in (b"\r\n", b"\n", b""):
                name, _, value = header.decode("latin-1").partition(":")
                headers.append((name.lower(), value.strip()))
            length = sum(int(value) for name, value in headers if name == "content-length")
            body = self.rfile.read(length)
            seen = {"line": line.decode("latin-1").strip(), "headers": headers, "length": len(body)}
            print(json.dumps(seen), flush=True)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    import threading

    servers = [Server(("0.0.0.0", port), Recorder) for port in PORTS]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()
