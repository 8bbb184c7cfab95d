# SPDX-License-Identifier: Apache-2.0
"""What the container tests share: a private directory, a store with a busybox image, commands as root or as an
ordinary user, and a look at what is left behind.

A test is a function whose name begins with `test_`; main() runs those of the caller's module and prints a line each.
Exit status 0, 1, or 77 (with the reason) where this machine cannot run them. What is not for every WHO says so by @only.
What not every machine can run is @apart: a test of ctest by itself, so that ctest's summary names and counts its skip.
"""
import glob
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
SUPPORT = os.path.join(os.path.dirname(HERE), "support")
sys.path.insert(0, SUPPORT)
USERS = {"root": None, "user": "layerfs-test", "single": "layerfs-single"}


class Skip(Exception):
    pass


def skip(reason):
    """Says that this machine cannot run a test. Only for one that is @apart, or for all of a script."""
    raise Skip(reason)


def only(*who):
    """The test says nothing about others than `who`, and is not run for them."""
    def mark(test):
        test.who = who
        return test
    return mark


def apart(*who):
    """As only(), and main() runs the test only when it is asked for by name, as ../support/apart.cmake does."""
    def mark(test):
        test.who, test.apart = who, True
        return test
    return mark


class Stage:
    """One WHO (root, user, single) with its directory and store."""

    def __init__(self, layerfs, who, with_image=True):
        self.layerfs = os.path.abspath(layerfs)
        self.oci = os.path.join(os.path.dirname(self.layerfs), "layerfs-oci")
        self.who = who
        os.umask(0o022)  # files of the tests are for the user too
        if os.geteuid() != 0:
            skip("needs root, to become the test users")
        made = subprocess.run([os.path.join(SUPPORT, "setup_users")], capture_output=True, text=True)
        if made.returncode:
            skip(made.stderr.strip() or "setup_users failed")
        user = USERS[who]
        self.account = pwd.getpwnam(user) if user else None
        self.dir = tempfile.mkdtemp(prefix="layerfs-container-")
        self.home = os.path.join(self.dir, "home")
        self.store = os.path.join(self.home, "store")
        try:
            self.fill(with_image)
        except BaseException:
            self.close()
            raise

    def fill(self, with_image):
        os.chmod(self.dir, 0o755)
        os.mkdir(self.home)
        if self.account:
            os.chown(self.home, self.account.pw_uid, self.account.pw_gid)
            found = subprocess.run([os.path.join(SUPPORT, "reachable"), self.account.pw_name, self.dir, self.layerfs,
                                    self.oci], check=True, stdout=subprocess.PIPE, text=True)
            self.layerfs, self.oci = found.stdout.splitlines()
        if with_image:
            self.import_image()

    def import_image(self):
        self.image = os.path.join(self.dir, "image")
        made = subprocess.run([os.path.join(SUPPORT, "make_busybox_image"), self.image], capture_output=True, text=True)
        if made.returncode == 77:
            skip(made.stderr.strip())
        assert made.returncode == 0, made.stderr
        self.must("import", "-q", "oci:" + self.image, "--name", "busybox")

    @property
    def single(self):
        return self.who == "single"

    def environment(self):
        return {"PATH": os.environ["PATH"], "HOME": self.home, "LAYERFS_ROOT": self.store, "TERM": "xterm"}

    def become(self):
        """For preexec_fn: the user, in its own session so that the whole test can be killed."""
        if self.account:
            os.initgroups(self.account.pw_name, self.account.pw_gid)
            os.setgid(self.account.pw_gid)
            os.setuid(self.account.pw_uid)

    def popen(self, *args, program=None, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen([program or self.layerfs, *args], env=self.environment(), preexec_fn=self.become,
                                cwd=self.home, **more)

    def run(self, *args, program=None, input=None, timeout=60, **more):
        """Runs the command to its end; .stdout and .stderr are text."""
        more.setdefault("stdout", subprocess.PIPE)
        more.setdefault("stderr", subprocess.PIPE)
        if input is not None:
            more["stdin"] = subprocess.PIPE
        process = self.popen(*args, program=program, **more)
        try:
            out, err = process.communicate(None if input is None else input.encode(), timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError("timed out: %s\n%s\n%s" % (args, out, err))
        text = lambda data: (data or b"").decode(errors="replace")
        return subprocess.CompletedProcess(args, process.returncode, text(out), text(err))

    def must(self, *args, **more):
        """run() that succeeds; returns its output."""
        done = self.run(*args, **more)
        assert done.returncode == 0, "%s: status %d\n%s%s" % (args, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def sh(self, script, *options, **more):
        """`run --rm OPTIONS busybox sh -c SCRIPT`, successfully."""
        return self.must("run", "--rm", *options, "busybox", "sh", "-c", script, **more)

    def make_image(self, name, config, fill):
        """An image on top of nothing: `fill` adds entries to a LayerTar that has busybox."""
        from oci_layout import Image, LayerTar
        tar = LayerTar()
        for directory in ("bin", "dev", "etc", "proc", "sys", "tmp", "root"):
            tar.dir(directory)
        with open("/bin/busybox", "rb") as file:
            tar.file("bin/busybox", file.read(), 0o755)
        for applet in ("sh", "cat", "ls", "id", "true", "sleep", "echo", "readlink", "dd", "head", "touch", "mount"):
            tar.symlink("bin/" + applet, "busybox")
        fill(tar)
        image = Image({"Env": ["PATH=/bin"], **config})
        image.add_layer(tar, name)
        path = os.path.join(self.dir, "image-" + name)
        image.write(path)
        self.must("import", "-q", "oci:" + path, "--name", name)

    def running(self):
        """The running/ files of the store, parsed."""
        states = []
        for path in glob.glob(os.path.join(self.store, "running", "*")):
            with open(path) as file:
                states.append(json.loads(file.read()))
        return states

    def wait_running(self, process, timeout=20):
        """The state of the one container that runs, once its program does."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            states = [state for state in self.running() if state["pid"]]
            if states and program_runs(states[0]["pid"]):
                return states[0]
            assert process.poll() is None, "ended early: %s" % process.returncode
            time.sleep(0.02)
        raise AssertionError("the container does not run")

    def leftovers(self):
        """What is still there of containers, as text; waits a moment for what is just going."""
        end = time.monotonic() + 10
        while True:
            found = []
            with open("/proc/self/mountinfo") as file:
                found += ["mount " + line.split()[4] for line in file if self.dir in line]
            found += ["process %s %s" % item for item in processes_with(self.store)]
            found += ["running/" + state["id"] for state in self.running()]
            if not found or time.monotonic() > end:
                return found
            time.sleep(0.05)

    def containers(self):
        path = os.path.join(self.store, "containers")
        return os.listdir(path) if os.path.isdir(path) else []

    def close(self):
        for pid, _ in processes_with(self.store):
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        end = time.monotonic() + 10
        while processes_with(self.store) and time.monotonic() < end:
            time.sleep(0.05)
        shutil.rmtree(self.dir, ignore_errors=True)


def children_of(pid):
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
            return file.read().split()
    except OSError:
        return []


def program_runs(init):
    """Whether an init's child is past its exec: before it, it is the init's own program."""
    try:
        own = os.readlink("/proc/%s/exe" % init)
        return any(os.readlink("/proc/%s/exe" % pid) != own for pid in children_of(init))
    except OSError:
        return False


def processes_with(text):
    """Processes that have `text` in their environment: everything that a test's layerfs started on the host."""
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        pid = path.split("/")[2]
        try:
            with open(path, "rb") as file:
                if text.encode() not in file.read():
                    continue
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                found.append((pid, file.read().replace(b"\0", b" ").decode(errors="replace")))
        except OSError:
            continue
    return found


def gone(pid):
    """With all its threads: the first may have ended while others still hold files and locks."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            has_ended = file.read().rpartition(")")[2].split()[0] in "ZX"
        return has_ended and len(os.listdir("/proc/%d/task" % pid)) <= 1
    except OSError:
        return True


def wait_for(condition, what, timeout=20):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "still waiting: " + what
        time.sleep(0.02)


def main(tests, with_image=True):
    """main(globals()): usage TEST LAYERFS WHO [NAME...]. Without the image where only layerfs-oci is tested."""
    if len(sys.argv) < 3 or sys.argv[2] not in USERS:
        sys.exit("usage: %s LAYERFS root|user|single [TEST...]" % sys.argv[0])
    who, names = sys.argv[2], sys.argv[3:]
    chosen = {name: test for name, test in tests.items() if name.startswith("test_") and
              who in getattr(test, "who", USERS) and (name in names if names else not hasattr(test, "apart"))}
    if not chosen or not set(names) <= set(chosen):
        sys.exit("%s: for %s there is no %s" % (sys.argv[0], who, " or ".join(set(names) - set(chosen)) or "test"))
    try:
        stage = Stage(sys.argv[1], who, with_image)
    except Skip as reason:
        print("skipped: %s" % reason)
        sys.exit(77)
    failed = skipped = passed = 0
    unseen = []  # skipped, and ctest does not know
    try:
        for name, test in chosen.items():
            started = time.monotonic()
            try:
                test(stage)
                left = stage.leftovers()
                assert not left, "left behind: %s" % left
                outcome, passed = "ok", passed + 1
            except Skip as reason:
                outcome, skipped = "skipped: %s" % reason, skipped + 1
                unseen += [] if hasattr(test, "apart") else [name]
            except Exception:
                outcome, failed = "FAILED\n" + traceback.format_exc(), failed + 1
            print("%-6s %-40s %5.2f s  %s" % (stage.who, name, time.monotonic() - started, outcome), flush=True)
    finally:
        stage.close()
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    if passed and unseen:
        failed += len(unseen)
        print("not @apart, but skipped: %s" % " ".join(unseen))
    sys.exit(1 if failed else 77 if not passed else 0)
