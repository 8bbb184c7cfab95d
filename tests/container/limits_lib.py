# SPDX-License-Identifier: Apache-2.0
"""What the tests of limits share: who may set them here, and the example that must hold however a container is
started: 512 MB of memory, a quarter of a processor, 2 MiB/s of disk, some processes, each exceeded on purpose."""
import json
import os
import subprocess
import tarfile

from container_lib import skip

MIB = 1 << 20
MEMORY = 512 * MIB
# One buffer of 700 MB, written to.
EAT_MEMORY = ["dd", "if=/dev/zero", "of=/dev/null", "bs=700M", "count=1"]
# The same in a shell's variable, and how many bytes it has.
EAT = "x=$(dd if=/dev/zero bs=1M count=%d 2>/dev/null | tr '\\0' a); echo ${#x}"
# Unpacks fill_links(): as many as the file system's server keeps.
LINKS = """
    mkdir /links; tar -xf /links.tar -C /links 2>/tmp/error; tail -n 1 /tmp/error | tail -c 30; ls /links | wc -l
"""
# The shell is one of the limit; it ends when it cannot fork.
FORK_BOMB = ["sh", "-c", "i=0; while [ $i -lt 90 ]; do sleep 1000 & i=$((i+1)); echo $i; done"]
# The share of a processor that a busy process had in ten seconds: its ticks (of 10 ms, proc(5)) and the clock's.
BUSY = ["sh", "-c", """
    ticks() { cut -d' ' -f14 /proc/$busy/stat; cut -d' ' -f15 /proc/$busy/stat; cut -d' ' -f1 /proc/uptime; }
    while :; do :; done & busy=$!
    sleep 1; ticks; sleep 10; ticks; kill $busy"""]
# Past the page cache: v1 does not throttle what is written back later.
TIMED = "cut -d' ' -f1 /proc/uptime; dd bs=512k count=12 %s || exit 1; cut -d' ' -f1 /proc/uptime\n"
WRITE = TIMED % "if=/dev/zero of=%s oflag=direct"
READ = TIMED % "if=%s of=/dev/null iflag=direct"
SIZE = 6 * MIB
RATE = 2 * MIB


def own_group():
    """The caller's group in cgroup2, as a directory; None where v1 controllers are mounted."""
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split() for line in file]
    groups = [(fields[4], fields[fields.index("-") + 1], fields[-1].split(",")) for fields in mounts]
    if any(kind == "cgroup" and not any(name.startswith("name=") for name in options) for _, kind, options in groups):
        return None
    unified = [path for path, kind, _ in groups if kind == "cgroup2"]
    with open("/proc/self/cgroup") as file:
        own = [line.strip()[3:] for line in file if line.startswith("0::")]
    return unified[0] + own[0] if unified and own else None


def disk_of(path):
    """The block device, (path, major, minor), that `path` is on."""
    number = os.stat(path).st_dev
    entry = "/sys/dev/block/%d:%d" % (os.major(number), os.minor(number))
    if not os.path.exists(entry):
        skip("the test's directory is on no disk that could be throttled")
    if os.path.exists(os.path.join(entry, "partition")):  # limits are of whole disks
        entry = os.path.dirname(os.path.realpath(entry))
    with open(os.path.join(entry, "uevent")) as file:
        fields = dict(line.strip().split("=", 1) for line in file)
    return "/dev/" + fields["DEVNAME"], int(fields["MAJOR"]), int(fields["MINOR"])


def check_share(output, share, machine_is_ours=True):
    """`output` of BUSY: within a tenth of `share`; a busy machine may give less, and a virtual one can't see how busy its
    host is."""
    numbers = [float(word) for word in output.split()]
    assert len(numbers) == 6, output
    used = (numbers[3] + numbers[4] - numbers[0] - numbers[1]) / 100
    elapsed = numbers[5] - numbers[2]
    quiet = machine_is_ours and os.getloadavg()[0] < 2 * os.cpu_count()
    least = 0.9 * share if quiet else 0
    assert elapsed >= 9.9 and least <= used / elapsed <= 1.1 * share, "%.2f s of cpu in %.2f s" % (used, elapsed)


def check_rates(output, count, rate=RATE):
    """`output` of `count` timed copies: each was held to `rate`. The kernel lets the first slice pass."""
    clock = [float(word) for word in output.split()]
    assert len(clock) == 2 * count, output
    for begin, end in zip(clock[::2], clock[1::2]):
        assert end - begin >= 0.9 * (SIZE - MIB // 2) / rate, "%d bytes in %.2f s" % (SIZE, end - begin)
        # Held, not stopped: a busy disk may be slower, but not by this much.
        assert end - begin <= 5 * SIZE / rate, "%d bytes in %.2f s" % (SIZE, end - begin)


def groups_of(identities):
    return [os.path.join(path, name) for path, names, _ in os.walk("/sys/fs/cgroup") for name in names
            if name.startswith("layerfs-") and any(identity in name for identity in identities)]


def server_of(stage, identity):
    """The process that serves the root of the container."""
    lock = os.stat(os.path.join(stage.store, "containers", identity, "lock"))
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                found = os.stat(f"/proc/{pid}/fd/{fd}")
                if (found.st_dev, found.st_ino) == (lock.st_dev, lock.st_ino):
                    return int(pid)
        except OSError:
            continue
    raise AssertionError("nobody serves the container")


def fill_links(stage):
    """An archive of links with targets of 4,000 bytes, for the options of `run`."""
    path = os.path.join(stage.home, "links.tar")
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(6000):
            link = tarfile.TarInfo(f"link{number}")
            link.type, link.linkname = tarfile.SYMTYPE, "x" * 4000
            archive.addfile(link)
    os.chmod(path, 0o644)
    return ["-v", f"{path}:/links.tar:ro"]


def oom_score_adj(pid):
    with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


def check_memory_of_files(stage):
    """What a program makes the server keep counts against the limit, is refused from half of it on, and is room again when
    it is gone; a process of the container is taken before the server is."""
    script = LINKS + """
        echo full; read go
        rm -r /links; i=0; while ! ln -s x /again 2>/dev/null && [ $i -lt 300 ]; do i=$((i + 1)); sleep 0.1; done
        readlink /again"""
    process = stage.popen("run", "--name", "eats", "-i", "--memory", "24m", *fill_links(stage), "busybox", "sh", "-c", script,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    told = process.stdout.readline()
    assert "No space left on device" in told, told
    assert 200 < int(process.stdout.readline()) < 5000 and process.stdout.readline() == "full\n"
    [identity] = stage.containers()
    server = server_of(stage, identity)
    with open(f"/proc/{server}/cgroup", encoding="ascii") as file:
        groups = {names: path for _, names, path in (line.split(":", 2) for line in file.read().splitlines())}
    assert groups.get("memory", groups.get("")).endswith(f"layerfs-{identity}/files"), groups
    with open(f"/proc/{server}/status", encoding="ascii") as file:
        own = int(next(line.split()[1] for line in file if line.startswith("RssAnon:")))
    assert 4 << 10 < own < 16 << 10, own
    with open(os.path.join(stage.store, "running", identity), encoding="utf-8") as file:
        init = json.load(file)["pid"]
    assert oom_score_adj(init) - oom_score_adj(server) >= 900, (oom_score_adj(init), oom_score_adj(server))
    out = process.communicate("go\n")[0]
    assert (process.returncode, out) == (0, "x\n"), out
    stage.must("rm", "eats")
    assert not groups_of([identity]), groups_of([identity])


def check_lack_of_memory(stage):
    """The server has all that it may keep, and the program wants more than the rest."""
    done = stage.run("run", "--name", "starves", "--memory", "24m", "--memory-swap", "24m", *fill_links(stage), "busybox",
                     "sh", "-c", "echo kept >/kept; sync\n" + LINKS + EAT % 100, timeout=300)
    assert done.returncode == 137 and "ran out of memory" in done.stderr and "server" not in done.stderr, done
    stage.must("commit", "starves", "after")
    assert stage.must("run", "--rm", "after", "cat", "/kept") == "kept\n"
    stage.must("rm", "starves")
    stage.must("rmi", "after")
