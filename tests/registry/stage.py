# SPDX-License-Identifier: Apache-2.0
"""What the tests of misbehaving registries share: a stage (a directory, a registry, a store), and how tests are run.

LAYERFS_TEST_SEED chooses where connections are cut.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))
from faulty_registry import NAME, FaultyRegistry
from oci_layout import Image, LayerTar

PATIENCE = 100  # seconds that nothing here comes near to
SEED = int(os.environ.get("LAYERFS_TEST_SEED") or random.randrange(1 << 32))


class Stage:
    """A directory, a registry and a store."""

    def __init__(self, layerfs, layout):
        self.layerfs, self.layout = layerfs, layout
        self.dir = tempfile.mkdtemp(prefix="registry-faults.")
        self.store = os.path.join(self.dir, "store")
        self.random = random.Random(SEED)
        self.registries = []
        self.registry = self.start()
        os.makedirs(os.path.join(self.dir, "home/.config/containers"))
        self.put("home/.config/containers/policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
        self.environment = {"PATH": os.environ["PATH"], "HOME": os.path.join(self.dir, "home"),
                            "XDG_RUNTIME_DIR": os.path.join(self.dir, "run"),
                            "CONTAINERS_REGISTRIES_CONF": self.put("registries.conf", "")}

    def start(self):
        self.registries.append(FaultyRegistry(self.layout))
        return self.registries[-1]

    def empty_registry(self):
        """Takes away what the registry has, and what it has seen."""
        self.registry.blobs.clear()
        self.registry.tags.clear()
        del self.registry.seen[:]

    def put(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def close(self):
        for registry in self.registries:
            registry.close()
        shutil.rmtree(self.dir)

    @property
    def ref(self):
        return "%s/%s" % (self.registry.host, NAME)

    def command(self, *words):
        return [self.layerfs, "--root", self.store, *words]

    def run(self, *words):
        return subprocess.run(self.command(*words), env=self.environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors="surrogateescape", timeout=PATIENCE)

    def pull(self, *words, ref=None):
        return self.run("pull", "--tls-verify=false", *words, ref or self.ref)

    def must_pull(self, *words, ref=None):
        done = self.pull(*words, ref=ref)
        assert done.returncode == 0, done
        return done.stdout.split()[-1]

    def must_fail(self, *parts, words=(), ref=None):
        done = self.pull(*words, ref=ref)
        assert done.returncode == 1, done
        assert all(part in done.stderr for part in parts), (parts, done.stderr)
        assert len(done.stderr) < 5000 and "\x1b" not in done.stderr, done.stderr
        assert self.images() == [], self.images()
        return done.stderr

    def must_import(self):
        """The layout's image as `mine`."""
        done = self.run("import", "-q", "oci:" + self.layout, "--name", "mine")
        assert done.returncode == 0, done

    def push(self, *words, ref=None):
        return self.run("push", "--tls-verify=false", "mine", ref or self.ref, *words)

    def must_push(self, *words, ref=None):
        done = self.push(*words, ref=ref)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def must_not_push(self, *parts, words=(), ref=None):
        done = self.push(*words, ref=ref)
        assert done.returncode == 1 and done.stdout == "", done
        assert all(part in done.stderr for part in parts), (parts, done.stderr)
        assert len(done.stderr) < 5000 and "\x1b" not in done.stderr, done.stderr
        assert self.registry.tags == {}, self.registry.tags
        return done.stderr

    def images(self):
        if not os.path.exists(self.store):
            return []
        return json.loads(self.run("images", "--json").stdout)

    def check(self):
        if os.path.exists(self.store):
            done = self.run("store", "check")
            assert done.returncode == 0, done
            assert os.listdir(os.path.join(self.store, "tmp")) == [], os.listdir(os.path.join(self.store, "tmp"))


def make_layout(directory, sizes):
    """An image with a layer of about each size, that no compression makes smaller."""
    image = Image({"Cmd": ["/bin/true"]})
    source = random.Random(1)
    for number, size in enumerate(sizes):
        tar = LayerTar()
        tar.dir("layer%d" % number)
        for part in range(10):
            tar.file("layer%d/%d" % (number, part), source.randbytes(size // 10))
        image.add_layer(tar, "layer %d" % number)
    image.write(directory)


def run_tests(tests, sizes):
    """The functions named test_* of `tests`, or those that the command line names, each on a stage of its own."""
    layerfs, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    work = tempfile.mkdtemp(prefix="registry-faults.")
    layout = os.path.join(work, "layout")
    make_layout(layout, sizes)
    failed = 0
    try:
        for name, test in sorted(tests.items()):
            if not name.startswith("test_") or (wanted and name not in wanted):
                continue
            stage = Stage(layerfs, layout)
            try:
                begin = time.monotonic()
                test(stage)
                stage.check()
                print("ok %s (%.1f s)" % (name, time.monotonic() - begin), flush=True)
            except Exception as error:  # the others are still worth running
                failed += 1
                line = error.__traceback__.tb_next
                print("FAIL %s, line %d: %s %s (LAYERFS_TEST_SEED=%d)" % (
                    name, line.tb_lineno if line else 0, type(error).__name__, error, SEED), flush=True)
            finally:
                stage.close()
    finally:
        shutil.rmtree(work)
    sys.exit(1 if failed else 0)
