# SPDX-License-Identifier: Apache-2.0
"""A registry on loopback that answers as the distribution-spec says, but for what a test puts in its way.

FaultyRegistry(layout) serves the image of an OCI layout as NAME:latest, and by digest. `fault`, a function of the
handler, is asked first: True from it means that it has answered (or cut) by itself. Every request is in `seen`.
What is uploaded is kept in `blobs` and `tags`; `cut_upload`, a function of the handler and the length of a body, says
after how many bytes of it the connection ends (None: not at all).
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

    do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = do_CONNECT = do_GET

    def answer(self):
        registry = self.server.registry
        length = int(self.headers.get("Content-Length") or 0)
        cut_at = registry.cut_upload(self, length) if registry.cut_upload and length else None
        self.body = self.rfile.read(length if cut_at is None else min(cut_at, length))
        with registry.lock:
            registry.seen.append((self.command, self.path, dict(self.headers)))
            number = len(registry.seen)
        self.number = number
        try:
            if cut_at is not None:
                registry.keep(self)
                self.cut()
                return
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
        self.uploads = {}  # number -> the bytes so far
        self.begun = 0
        self.ended = set()  # uploads that have had a chunk of less than `least`
        self.least = None  # OCI-Chunk-Min-Length
        self.absolute = False  # how Location is written
        self.mounts = {}  # digest -> repositories that have it
        self.cut_upload = None
        self.keeps_parts = True  # of a body that was cut
        self.knows_status = True  # answers GET of an upload
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
        upload = re.fullmatch(r"/v2/(.+)/blobs/uploads/(\d*)", path)
        if upload:
            return self.serve_upload(handler, upload[1], upload[2])
        if handler.command == "PUT":
            return self.put_manifest(handler, path)
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

    # ---- uploads
    def number_of(self, handler):
        return urllib.parse.urlsplit(handler.path).path.rsplit("/", 1)[1]

    def keep(self, handler):
        """What came of a body that was cut."""
        with self.lock:
            data = self.uploads.get(self.number_of(handler))
            if data is not None and handler.command == "PATCH" and self.keeps_parts:
                data += handler.body

    def location(self, name, number):
        """With a state that changes: an old Location is refused."""
        path = "/v2/%s/blobs/uploads/%s?state=%d" % (name, number, len(self.uploads[number]))
        return "http://%s%s" % (self.host, path) if self.absolute else path

    def say_upload(self, handler, status, name, number):
        size = len(self.uploads[number])
        headers = {"OCI_Chunk_Min_Length": str(self.least)} if self.least else {}
        return handler.say(status, Location=self.location(name, number), Range="0-%d" % max(0, size - 1), **headers)

    def serve_upload(self, handler, name, number):
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)
        with self.lock:
            if handler.command == "POST":
                if asked.get("from", [None])[0] in self.mounts.get(asked.get("mount", [None])[0], []):
                    return handler.say(201, Location="/v2/%s/blobs/%s" % (name, asked["mount"][0]))
                self.begun += 1
                self.uploads[str(self.begun)] = bytearray()
                return self.say_upload(handler, 202, name, str(self.begun))
            data = self.uploads.get(number)
            if data is None:
                return handler.say(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"unknown"}]}')
            if handler.command == "DELETE":
                del self.uploads[number]
                return handler.say(204)
            if handler.command == "GET":
                return self.say_upload(handler, 204, name, number) if self.knows_status else handler.say(404)
            if asked.get("state") != [str(len(data))]:
                return handler.say(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"an old Location"}]}')
            if handler.command == "PATCH":
                if self.least and number in self.ended:
                    return handler.say(400, b'{"errors":[{"code":"SIZE_INVALID","message":"the last chunk was too short"}]}')
                if self.least and len(handler.body) < self.least:
                    self.ended.add(number)
                begin, end = map(int, handler.headers["Content-Range"].split("-"))
                if begin != len(data) or end - begin + 1 != len(handler.body):
                    return self.say_upload(handler, 416, name, number)
                data += handler.body
                return self.say_upload(handler, 202, name, number)
            data += handler.body
            if sha256(data) != asked["digest"][0]:
                return handler.say(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"other bytes"}]}')
            self.blobs[sha256(data)] = bytes(data)
            del self.uploads[number]
            return handler.say(201, Location="/v2/%s/blobs/%s" % (name, sha256(data)),
                               Docker_Content_Digest=sha256(data))

    def put_manifest(self, handler, path):
        match = re.fullmatch(r"/v2/(.+)/manifests/(.+)", path)
        manifest = json.loads(handler.body)
        if any(part["digest"] not in self.blobs for part in [manifest["config"], *manifest["layers"]]):
            return handler.say(400, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"a blob is missing"}]}')
        digest = self.put(handler.body, None if match[2].startswith("sha256:") else match[2])
        return handler.say(201, Docker_Content_Digest=digest)

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
        if handler.command == "HEAD":
            return True
        if cut_after is None:
            handler.wfile.write(data[begin:])
            return True
        handler.wfile.write(data[begin:begin + cut_after])
        return handler.cut() if begin + cut_after < len(data) else True


def credentials(handler):
    """"USER:PASSWORD" of the request, or None."""
    kind, _, value = handler.headers.get("Authorization", "").partition(" ")
    return base64.b64decode(value).decode() if kind == "Basic" else None
