# SPDX-License-Identifier: Apache-2.0
"""The matrices: every call of one path on every kind of target, every rename of every kind onto every kind.
Each runs in a fresh small fixture and ends with its snapshot, so side effects are compared too."""
import os
import stat

import calls

ONE_PATH_TARGETS = {
    "file": "f", "directory": "sub", "empty directory": "empty", "link": "l", "dangling": "dangling",
    "link to directory": "dl", "hard link": "hl", "fifo": "fifo", "mode 0": "none", "read-only": "ro",
    "missing": "missing", "below missing": "missing/x", "below file": "f/x", "below link": "l/x",
    "below link to directory": "dl/g", "dot": "sub/.", "dotdot": "sub/..", "directory slash": "sub/",
    "file slash": "f/", "dangling slash": "dangling/", "missing slash": "missing/", "255 bytes": "n" * 255,
    "256 bytes": "n" * 256, "nothing": "",
}


def opened(recorder, target, flags, mode=0o666):
    fd = recorder.open(target, flags, mode)
    if fd is not None:
        recorder.do("fstat", os.fstat, fd)
        recorder.close(fd)


# name -> function(recorder, target); those that change nothing share a fixture for all targets
READING = {
    "stat": lambda r, t: r.do("stat", os.stat, r.p(t)),
    "lstat": lambda r, t: r.do("lstat", os.lstat, r.p(t)),
    "access": lambda r, t: [r.do("access %d" % m, os.access, r.p(t), m) for m in (0, 1, 2, 4, 7)],
    "open rdonly": lambda r, t: opened(r, t, os.O_RDONLY),
    "open wronly": lambda r, t: opened(r, t, os.O_WRONLY),
    "open rdwr append": lambda r, t: opened(r, t, os.O_RDWR | os.O_APPEND),
    "open directory": lambda r, t: opened(r, t, os.O_RDONLY | os.O_DIRECTORY),
    "open nofollow": lambda r, t: opened(r, t, os.O_RDONLY | os.O_NOFOLLOW),
    "open path": lambda r, t: opened(r, t, os.O_PATH),
    "open path nofollow": lambda r, t: opened(r, t, os.O_PATH | os.O_NOFOLLOW),
    "open noatime": lambda r, t: opened(r, t, os.O_RDONLY | os.O_NOATIME),
    "readlink": lambda r, t: r.do("readlink", os.readlink, r.p(t)),
    "listdir": lambda r, t: r.do("listdir", lambda: sorted(os.listdir(r.p(t) or "/nonexistent"))),
    "listxattr": lambda r, t: r.do("listxattr", os.listxattr, r.p(t)),
    "getxattr": lambda r, t: r.do("getxattr", os.getxattr, r.p(t), "user.none"),
    "statvfs": lambda r, t: r.do("statvfs", os.statvfs, r.p(t)),
}

CHANGING = {
    "open create": lambda r, t: opened(r, t, os.O_WRONLY | os.O_CREAT, 0o640),
    "open create excl": lambda r, t: opened(r, t, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o4755),
    "open create directory": lambda r, t: opened(r, t, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0),
    "open trunc": lambda r, t: opened(r, t, os.O_WRONLY | os.O_TRUNC),
    "open tmpfile": lambda r, t: opened(r, t, os.O_RDWR | os.O_TMPFILE, 0o600),
    "mkdir": lambda r, t: r.do("mkdir", os.mkdir, r.p(t), 0o7777),
    "rmdir": lambda r, t: r.do("rmdir", os.rmdir, r.p(t)),
    "unlink": lambda r, t: r.do("unlink", os.unlink, r.p(t)),
    "symlink": lambda r, t: r.do("symlink", os.symlink, "some/where", r.p(t)),
    "mkfifo": lambda r, t: r.do("mkfifo", os.mkfifo, r.p(t), 0o622),
    "mknod file": lambda r, t: r.do("mknod", calls.mknod, r.p(t), stat.S_IFREG | 0o600),
    "mknod socket": lambda r, t: r.do("mknod", calls.mknod, r.p(t), stat.S_IFSOCK | 0o600),
    "mknod device": lambda r, t: r.do("mknod", calls.mknod, r.p(t), stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "truncate shorter": lambda r, t: r.do("truncate", os.truncate, r.p(t), 2),
    "truncate longer": lambda r, t: r.do("truncate", os.truncate, r.p(t), 10000),
    "truncate same": lambda r, t: r.do("truncate", os.truncate, r.p(t), 5),
    "truncate negative": lambda r, t: r.do("truncate", os.truncate, r.p(t), -1),
    "chmod": lambda r, t: r.do("chmod", os.chmod, r.p(t), 0o4710),
    "chown self": lambda r, t: r.do("chown", os.chown, r.p(t), os.getuid(), os.getgid()),
    "chown other": lambda r, t: r.do("chown", os.chown, r.p(t), 4711, 4712),
    "lchown none": lambda r, t: r.do("lchown", os.lchown, r.p(t), -1, -1),
    "utime": lambda r, t: r.do("utime", os.utime, r.p(t), ns=(5, 1_234_567_890_123_456_789)),
    "utime now": lambda r, t: r.do("utime", os.utime, r.p(t)),
    "lutime": lambda r, t: r.do("utime", os.utime, r.p(t), ns=(-7, -5_000_000_001), follow_symlinks=False),
    "setxattr": lambda r, t: r.do("setxattr", os.setxattr, r.p(t), "user.k", b"v"),
    "lsetxattr": lambda r, t: r.do("setxattr", os.setxattr, r.p(t), "user.k", b"v", follow_symlinks=False),
    "removexattr": lambda r, t: r.do("removexattr", os.removexattr, r.p(t), "user.k"),
    "link from": lambda r, t: r.do("link", os.link, r.p(t), r.p("new"), follow_symlinks=False),
    "link follow": lambda r, t: r.do("link", calls.link_following, r.p(t), r.p("new")),
    "link to": lambda r, t: r.do("link", os.link, r.p("ro"), r.p(t), follow_symlinks=False),
    "link of itself": lambda r, t: r.do("link", os.link, r.p("f"), r.p(t), follow_symlinks=False),
    "rename away": lambda r, t: r.do("rename", os.rename, r.p(t), r.p("new")),
    "rename into directory": lambda r, t: r.do("rename", os.rename, r.p(t), r.p("empty/new")),
    "rename file onto": lambda r, t: r.do("rename", os.rename, r.p("ro"), r.p(t)),
    "rename directory onto": lambda r, t: r.do("rename", os.rename, r.p("sub"), r.p(t)),
    "append": lambda r, t: r.write(t, b"-more", os.O_WRONLY | os.O_APPEND),
    "write": lambda r, t: r.write(t, b"J", os.O_WRONLY),
    "write beyond": lambda r, t: r.write(t, b"far", os.O_WRONLY, 70000),
}

RENAME_FROM = ["f", "hl", "sub", "empty", "l", "dl", "fifo", "missing", "sub/g", "."]
RENAME_TO = ["f", "hl", "sub", "empty", "l", "dangling", "fifo", "new", "sub/new", "sub/g", "empty/new", "missing/new", ""]
RENAME_FLAGS = {"": 0, " noreplace": calls.RENAME_NOREPLACE, " exchange": calls.RENAME_EXCHANGE}


MAKERS = {
    "file": lambda p: os.close(os.open(p, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)),
    "directory": os.mkdir,
    "link": lambda p: os.symlink("elsewhere", p),
    "fifo": os.mkfifo,
    "socket": lambda p: calls.mknod(p, stat.S_IFSOCK | 0o600),
    "whiteout device": lambda p: calls.mknod(p, stat.S_IFCHR | 0o600, 0),
    "hard link": None,
}


def recreate(r, target, make):
    """Removed and made again at once, as another type; and once more, so that the new one is removed too."""
    path = r.p(target)
    is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    if target == "sub":
        r.do("empty it", os.unlink, path + "/g")
    for _ in range(2):
        r.do("remove", os.rmdir if is_directory else os.unlink, path)
        r.do("gone", os.lstat, path)
        r.do("make", make or (lambda p: os.link(r.p("ro"), p)), path)
        r.stat(target)
        try:
            is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
        except OSError:
            return
    if is_directory:
        r.do("nothing shows through", os.listdir, path)
    r.do("rename it away", os.rename, path, r.p("moved"))
    r.do("gone", os.lstat, path)


def matrix_cases():
    """(name, function(recorder)) of every cell."""
    for call, function in READING.items():
        def read_all(recorder, function=function):
            for label, target in ONE_PATH_TARGETS.items():
                recorder.note("target", label)
                function(recorder, target)
        yield "matrix %s" % call, read_all
    for call, function in CHANGING.items():
        for label, target in ONE_PATH_TARGETS.items():
            yield "matrix %s / %s" % (call, label), lambda r, f=function, t=target: f(r, t)
    for target in ("f", "hl", "sub", "empty", "l", "fifo"):
        for kind, make in MAKERS.items():
            yield "matrix recreate %s as %s" % (target, kind), lambda r, t=target, m=make: recreate(r, t, m)
    for suffix, flags in RENAME_FLAGS.items():
        for old in RENAME_FROM:
            for new in RENAME_TO:
                yield ("matrix rename%s %s / %s" % (suffix, old, new or "nothing"),
                       lambda r, o=old, n=new, f=flags: r.do("renameat2", calls.renameat2, r.p(o), r.p(n), f))
