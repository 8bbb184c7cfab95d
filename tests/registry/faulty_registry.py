# SPDX-License-Identifier: Apache-2.0
"""A registry on loopback that answers as the distribution-spec says, but for what a test puts in its way.

FaultyRegistry(layout) serves the image of an OCI layout as NAME:latest, and by digest. `fault`, a function of the
handler, is asked first: True from it means that it has answered (or cut) by itself. Every request is in `seen`.
"""
import base64
import hashlib
import http.server
import json
import os
import re
import socket
import threading
import urllib.parse

NAME = "test/image"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "faulty"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer()

    do_HEAD = do_POST = do_GET

    def answer(self):
        registry = self.server.registry
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        with registry.lock:
            registry.seen.append((self.command, self.path, dict(self.headers)))
            number = len(registry.seen)
        self.number = number
        try:
            if registry.fault is None or not registry.fault(self):
                registry.serve(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # ---- what faults are made of
    def say(self, status, body=b"", **headers):
        """An answer; a header's name has _ for -."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers and "Transfer_Encoding" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return True

    def cut(self):
        """The end of this connection, in the middle of whatever was said."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        return True

    def endless(self, status=200, **headers):
        self.say(status, Transfer_Encoding="chunked", **headers)
        while True:
            self.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    @property
    def blob(self):
        """The digest of the blob that is asked for, or None."""
        match = re.fullmatch(r"/v2/.*/blobs/(sha256:[0-9a-f]{64})", self.path.split("?")[0])
        return match[1] if match else None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Clients that hang up are what tests are about."""


class FaultyRegistry:
    def __init__(self, layout):
        self.blobs = {}
        for name in os.listdir(os.path.join(layout, "blobs/sha256")):
            with open(os.path.join(layout, "blobs/sha256", name), "rb") as file:
                self.blobs["sha256:" + name] = file.read()
        with open(os.path.join(layout, "index.json")) as file:
            self.descriptor = json.load(file)["manifests"][0]
        self.manifest = json.loads(self.blobs[self.descriptor["digest"]])
        self.layers = [layer["digest"] for layer in self.manifest["layers"]]
        self.tags = {"latest": self.descriptor["digest"]}
        self.fault = None
        self.ranges = True
        self.lock = threading.Lock()
        self.seen = []
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.registry = self
        self.host = "127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def put(self, document, tag=None):
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.blobs[sha256(data)] = data
        if tag:
            self.tags[tag] = sha256(data)
        return sha256(data)

    def requests(self, part, method="GET"):
        with self.lock:
            return [seen for seen in self.seen if seen[0] == method and part in seen[1]]

    def serve(self, handler):
        path = urllib.parse.urlsplit(handler.path).path
        if path == "/v2/":
            return handler.say(200, b"{}")
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs|tags)/(.+)", path)
        if not match:
            return handler.say(404)
        if match[2] == "tags":
            return handler.say(200, json.dumps({"name": match[1], "tags": sorted(self.tags)}).encode())
        digest = self.tags.get(match[3], match[3])
        data = self.blobs.get(digest)
        if data is None:
            return handler.say(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
        if match[2] == "manifests":
            kind = json.loads(data).get("mediaType", "application/vnd.oci.image.manifest.v1+json")
            return handler.say(200, data, Content_Type=kind, Docker_Content_Digest=digest)
        return self.send_blob(handler, data)

    def send_blob(self, handler, data, cut_after=None):
        """Whole or by range; only `cut_after` bytes of it where that is given."""
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        begin = int(asked[1]) if asked and self.ranges else 0
        if asked and self.ranges and begin >= len(data):
            return handler.say(416, Content_Range="bytes */%d" % len(data))
        handler.send_response(206 if asked and self.ranges else 200)
        handler.send_header("Content-Length", str(len(data) - begin))
        handler.send_header("Content-Type", "application/octet-stream")
        if asked and self.ranges:
            handler.send_header("Content-Range", "bytes %d-%d/%d" % (begin, len(data) - 1, len(data)))
        handler.end_headers()
        if cut_after is None:
            handler.wfile.write(data[begin:])
            return True
        handler.wfile.write(data[begin:begin + cut_after])
        return handler.cut() if begin + cut_after < len(data) else True


def credentials(handler):
    """"USER:PASSWORD" of the request, or None."""
    kind, _, value = handler.headers.get("Authorization", "").partition(" ")
    return base64.b64decode(value).decode() if kind == "Basic" else None
