# SPDX-License-Identifier: Apache-2.0
"""Builds OCI image layouts from nothing but the standard library, the same bytes every time.

LayerTar collects the entries of one layer; Image puts layers together and writes the layout.
"""
import gzip
import hashlib
import io
import json
import os
import tarfile

EPOCH = 1764547200  # 2025-12-01
BLOCK = 512


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _text(name):
    """tarfile works with str; bytes that are no UTF-8 go through it as surrogates."""
    return os.fsdecode(name) if isinstance(name, bytes) else name


class LayerTar:
    """One layer. `form`: "pax", "gnu" or "ustar". Every add_* writes one entry, in the order of the calls."""

    def __init__(self, form="pax"):
        self.form = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}[form]
        self.out = bytearray()

    def _add(self, name, kind, mode, data=b"", link="", uid=0, gid=0, mtime=EPOCH, dev=(0, 0), xattrs=None, pax=None):
        info = tarfile.TarInfo(_text(name))
        info.type, info.mode, info.uid, info.gid = kind, mode, uid, gid
        info.linkname, info.size = _text(link), len(data)
        info.devmajor, info.devminor = dev
        headers = dict(pax or {})
        if isinstance(mtime, str):  # seconds with a fraction, exactly as given
            headers["mtime"] = mtime
        else:
            info.mtime = mtime
        for key, value in (xattrs or {}).items():
            headers["SCHILY.xattr." + key] = _text(value)
        assert self.form == tarfile.PAX_FORMAT or not headers, "only pax can hold that"
        info.pax_headers = headers
        self.out += info.tobuf(self.form, "utf-8", "surrogateescape")
        self.out += data + bytes(-len(data) % BLOCK)

    def dir(self, name, mode=0o755, **more):
        self._add(name, tarfile.DIRTYPE, mode, **more)

    def file(self, name, data=b"", mode=0o644, **more):
        self._add(name, tarfile.REGTYPE, mode, data.encode() if isinstance(data, str) else data, **more)

    def symlink(self, name, target, **more):
        self._add(name, tarfile.SYMTYPE, 0o777, link=target, **more)

    def hardlink(self, name, target, mode=0o644, **more):
        """`mode` and the rest ought to be the target's: containers/storage sets them on it again."""
        self._add(name, tarfile.LNKTYPE, mode, link=target, **more)

    def fifo(self, name, mode=0o600, **more):
        self._add(name, tarfile.FIFOTYPE, mode, **more)

    def char(self, name, major, minor, mode=0o666, **more):
        self._add(name, tarfile.CHRTYPE, mode, dev=(major, minor), **more)

    def block(self, name, major, minor, mode=0o660, **more):
        self._add(name, tarfile.BLKTYPE, mode, dev=(major, minor), **more)

    def whiteout(self, name):
        head, tail = os.path.split(_text(name))
        self.file(os.path.join(head, ".wh." + tail))

    def opaque(self, directory):
        self.file(os.path.join(_text(directory), ".wh..wh..opq"))

    def sparse(self, name, size, islands, mode=0o644, **more):
        """A GNU sparse file in pax format 1.0. `islands`: [(offset, bytes)] in order; multiples of 512, only the last
        may be shorter: readers differ about padding between islands."""
        assert all(offset % BLOCK == 0 for offset, _ in islands)
        assert all(len(data) % BLOCK == 0 for _, data in islands[:-1])
        runs = islands if islands and islands[-1][0] + len(islands[-1][1]) == size else islands + [(size, b"")]
        table = "%d\n" % len(runs) + "".join("%d\n%d\n" % (offset, len(data)) for offset, data in runs)
        body = table.encode() + bytes(-len(table) % BLOCK)
        body += b"".join(data for _, data in runs)
        head, tail = os.path.split(_text(name))
        headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": _text(name),
                   "GNU.sparse.realsize": str(size)}
        self._add(os.path.join(head, "GNUSparseFile.0", tail), tarfile.REGTYPE, mode, body, pax=headers, **more)

    def bytes(self):
        return bytes(self.out) + bytes(2 * BLOCK)


class Image:
    def __init__(self, config=None):
        self.config = config or {}
        self.layers = []  # (media type, blob)
        self.diff_ids = []
        self.history = []

    def add_layer(self, tar, created_by, compression="gzip"):
        data = tar.bytes() if isinstance(tar, LayerTar) else tar
        self.diff_ids.append(sha256(data))
        media = "application/vnd.oci.image.layer.v1.tar"
        if compression == "gzip":
            buffer = io.BytesIO()
            with gzip.GzipFile("", "wb", 1, buffer, mtime=0) as stream:
                stream.write(data)
            data, media = buffer.getvalue(), media + "+gzip"
        self.layers.append((media, data))
        self.history.append({"created": "2025-12-01T00:00:00Z", "created_by": created_by})

    def add_empty_history(self, created_by):
        self.history.append({"created": "2025-12-01T00:00:00Z", "created_by": created_by, "empty_layer": True})

    def write(self, directory, tag="latest"):
        """Writes the layout. `directory` is made; it must not hold a layout yet."""
        blobs = os.path.join(directory, "blobs", "sha256")
        os.makedirs(blobs)

        def put(media, data):
            digest = sha256(data)
            with open(os.path.join(blobs, digest[7:]), "wb") as file:
                file.write(data)
            return {"mediaType": media, "digest": digest, "size": len(data)}

        def put_json(media, value):
            return put(media, json.dumps(value, separators=(",", ":"), sort_keys=True).encode())

        layers = [put(media, data) for media, data in self.layers]
        config = put_json("application/vnd.oci.image.config.v1+json", {
            "created": "2025-12-01T00:00:00Z", "architecture": "amd64", "os": "linux", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids}, "history": self.history})
        manifest = put_json("application/vnd.oci.image.manifest.v1+json", {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
            "layers": layers})
        manifest["annotations"] = {"org.opencontainers.image.ref.name": tag}
        with open(os.path.join(directory, "oci-layout"), "w") as file:
            file.write('{"imageLayoutVersion":"1.0.0"}')
        with open(os.path.join(directory, "index.json"), "w") as file:
            json.dump({"schemaVersion": 2, "manifests": [manifest]}, file, separators=(",", ":"), sort_keys=True)
