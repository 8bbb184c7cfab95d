# SPDX-License-Identifier: Apache-2.0
"""What the tests of limits share: who may set them here, and the example that must hold however a container is
started: 512 MB of memory, a quarter of a processor, 2 MiB/s of disk, some processes, each exceeded on purpose."""
import os

from container_lib import skip

MIB = 1 << 20
MEMORY = 512 * MIB
# One buffer of 700 MB, written to.
EAT_MEMORY = ["dd", "if=/dev/zero", "of=/dev/null", "bs=700M", "count=1"]
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
