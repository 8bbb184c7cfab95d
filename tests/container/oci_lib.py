# SPDX-License-Identifier: Apache-2.0
"""Bundle: a root of busybox and a config.json, and layerfs-oci on it, for the container tests."""
import json
import os
import shutil
import subprocess


def json_lines(path):
    """What another process has written so far, a value a line. Opened anew: it shares the place in its own file."""
    with open(path) as text:
        return [json.loads(line) for line in text.read().split("\n")[:-1]]


class Bundle:
    def __init__(self, stage, args, **changes):
        self.stage = stage
        self.path = os.path.join(stage.home, "bundle")
        shutil.rmtree(self.path, ignore_errors=True)
        root = os.path.join(self.path, "rootfs")
        for directory in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            os.makedirs(os.path.join(root, directory))
        shutil.copy("/bin/busybox", os.path.join(root, "bin"))
        for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
            if applet != "busybox":
                os.symlink("busybox", os.path.join(root, "bin", applet))
        if stage.account:
            for directory, names, files in os.walk(self.path):
                for name in [directory] + [os.path.join(directory, file) for file in files]:
                    os.lchown(name, stage.account.pw_uid, stage.account.pw_gid)
        options = ["--rootless"] if stage.account else []
        self.oci("delete", "-f", "c")  # of a test that failed
        self.oci("spec", "-b", self.path, *options)
        with open(os.path.join(self.path, "config.json")) as file:
            self.config = json.load(file)
        self.config["process"].update(terminal=False, args=args)
        self.config["root"]["readonly"] = False
        for key, value in changes.items():
            self.config["process"][key] = value
        self.write()

    def write(self):
        with open(os.path.join(self.path, "config.json"), "w") as file:
            json.dump(self.config, file)

    def try_oci(self, *args, **more):
        return self.stage.run("--root", os.path.join(self.stage.home, "state"), *args, program=self.stage.oci, **more)

    def oci(self, *args, **more):
        # Not to pipes: what a created container holds open would be waited for.
        with open(os.path.join(self.stage.home, "out"), "w+") as out:
            done = self.try_oci(*args, stdout=out, stderr=subprocess.STDOUT, **more)
            out.seek(0)
            text = out.read()
        assert done.returncode == 0, (args, done.returncode, text)
        return text

    def state(self, name="c"):
        return json.loads(self.oci("state", name))

    def stats(self):
        """What `events --stats` says of the container."""
        line = json.loads(self.oci("events", "--stats", "c"))
        assert (line["type"], line["id"]) == ("stats", "c"), line
        return line["data"]

    def groups(self):
        """The directories of the container's cgroups."""
        return [os.path.join(directory, "layerfs-c") for directory, names, _ in os.walk("/sys/fs/cgroup")
                if "layerfs-c" in names]

    def setting(self, *files):
        """The first of `files` that the container's groups have."""
        for path in (os.path.join(group, file) for group in self.groups() for file in files):
            if os.path.exists(path):
                with open(path) as text:
                    return text.read().strip()
        raise AssertionError("no file of %s" % (files,))

    def refused(self, field):
        self.write()
        done = self.try_oci("run", "-b", self.path, "bad")
        assert done.returncode != 0 and field in done.stderr, (field, done)
        assert self.oci("list", "-q") == ""
