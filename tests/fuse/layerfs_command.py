# SPDX-License-Identifier: Apache-2.0
"""What the scripts of this folder share: a private store with a small image, the layerfs command, the server."""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time


class Skip(Exception):
    """Its words say why this machine cannot run a test, which is apart."""


def apart(function):
    """What not every machine can run: only when it is asked for by name, as ../support/apart.cmake does."""
    function.apart = True
    return function


def is_apart(function):
    return hasattr(function, "apart")


class Layerfs:
    def __init__(self, program):
        self.program = program
        self.work = tempfile.mkdtemp(prefix="layerfs-test-")
        os.chmod(self.work, 0o755)
        self.store = self.work + "/store"
        self.mnt = self.work + "/mnt"
        os.mkdir(self.mnt)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for path in sorted(self.mounts_below(), reverse=True):
            subprocess.run(["umount", "-l", path], check=False, stderr=subprocess.DEVNULL)
            subprocess.run(["fusermount3", "-uz", path], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.work, ignore_errors=True)

    def mounts_below(self):
        with open("/proc/self/mountinfo", encoding="utf-8") as table:
            paths = [line.split()[4] for line in table]
        return [path for path in paths if path.startswith(self.work + "/")]

    def run(self, *arguments, prefix=(), timeout=60):
        """The finished process, output as text."""
        return subprocess.run([*prefix, self.program, "--root", self.store, *arguments], check=False, timeout=timeout,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def ok(self, *arguments, prefix=(), timeout=60):
        done = self.run(*arguments, prefix=prefix, timeout=timeout)
        assert done.returncode == 0, "layerfs %s: status %d\n%s" % (" ".join(arguments), done.returncode, done.stderr)
        return done.stdout

    def fails(self, *arguments, status=1, says=""):
        done = self.run(*arguments)
        assert done.returncode == status, "layerfs %s: status %d\n%s" % (
            " ".join(arguments), done.returncode, done.stderr)
        assert says in done.stderr, "%r is not in %r" % (says, done.stderr)
        assert not self.mounts_below() or self.mnt in self.mounts_below()
        return done.stderr

    def import_directory(self, name="image", **files):
        """An image of a root directory with these files (contents as text; names with __ for /)."""
        source = tempfile.mkdtemp(dir=self.work)
        os.chmod(source, 0o755)
        for path, text in files.items():
            path = os.path.join(source, path.replace("__", "/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        self.ok("import", "dir:" + source, "--name", name)
        shutil.rmtree(source)

    def uppers(self):
        return {upper["name"]: upper for upper in json.loads(self.ok("uppers", "--json"))}

    def ask(self, directory, request):
        """A connection to the control socket after one request, and its answer."""
        connection = socket.socket(socket.AF_UNIX)
        handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        connection.connect("/proc/self/fd/%d/control" % handle)
        os.close(handle)
        connection.sendall(request.encode() + b"\n")
        return connection, connection.makefile().readline().strip()

    def server_pid(self, upper):
        connection, answer = self.ask(self.uppers()[upper]["directory"], "stats")
        connection.close()
        return json.loads(answer)["pid"]


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in %g seconds" % seconds
        time.sleep(0.01)


def is_running(pid):
    """Or one of its threads: the first may have ended while others still hold files and locks."""
    try:
        os.kill(pid, 0)
        with open("/proc/%d/stat" % pid, encoding="utf-8") as file:
            has_ended = file.read().rsplit(")", 1)[1].split()[0] == "Z"
        return not has_ended or len(os.listdir("/proc/%d/task" % pid)) > 1
    except (ProcessLookupError, FileNotFoundError):  # the second where it is waited for in between
        return False


def kill_and_wait(pid, number=signal.SIGKILL):
    os.kill(pid, number)
    wait_until(lambda: not is_running(pid))


def parent_of(pid):
    with open("/proc/%d/stat" % pid, encoding="utf-8") as file:
        return int(file.read().rsplit(")", 1)[1].split()[1])


def server_of(fs, directory):
    """The server once it answers: it has done by then what it does at its start."""
    found = []

    def answers():
        try:
            connection, answer = fs.ask(directory, "stats")
            connection.close()
            found.append(json.loads(answer)["pid"])
            return True
        except (OSError, ValueError):
            return False

    wait_until(answers, 60)
    return found[0]


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()
