# SPDX-License-Identifier: Apache-2.0
"""The little tree that a case starts from, and the snapshot that it ends with."""
import os
import stat
import time
import zlib

import calls

OLD = 1_000_000_000 * 10**9  # every time in a fresh fixture
USER, GROUP, EXTRA_GROUP = 30001, 30001, 30002  # of the ordinary user; the tests need no passwd entry


def write(path, data, mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def settle(top):
    """Sets all times to OLD, children first."""
    for directory, _, names in os.walk(top, topdown=False):
        for name in names:
            os.utime(os.path.join(directory, name), ns=(OLD, OLD), follow_symlinks=False)
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if os.path.islink(path):
                os.utime(path, ns=(OLD, OLD), follow_symlinks=False)
        os.utime(directory, ns=(OLD, OLD))


def build_small(top, owner=None):
    """For the matrices: one of each kind."""
    os.mkdir(top, 0o755)
    write(top + "/f", b"hello")
    os.mkdir(top + "/sub", 0o755)
    write(top + "/sub/g", b"deep")
    os.mkdir(top + "/empty", 0o755)
    os.symlink("f", top + "/l")
    os.symlink("nothing", top + "/dangling")
    os.symlink("sub", top + "/dl")
    os.link(top + "/f", top + "/hl")
    os.mkfifo(top + "/fifo", 0o644)
    write(top + "/none", b"secret", 0)
    write(top + "/ro", b"read-only", 0o444)
    give(top, owner)
    settle(top)


def build_full(top, owner=None):
    """For the single cases: large, sparse, with xattrs, with modes that matter, and somebody else's."""
    build_small(top)
    write(top + "/big", bytes(range(256)) * 2048)  # 512 KiB: an object of its own, copied up by range
    with open(top + "/sparse", "wb") as file:
        file.write(b"head")
        file.seek(1 << 20)
        file.write(b"tail")
    os.chmod(top + "/sparse", 0o644)
    write(top + "/script", b"#!/bin/sh\necho ran\n", 0o755)
    write(top + "/attr", b"with xattrs")
    os.setxattr(top + "/attr", "user.one", b"1")
    os.setxattr(top + "/attr", "user.two", b"22")
    give(top, owner)
    write(top + "/suid", b"#!/bin/true\n", 0o6755)
    write(top + "/sgid-noexec", b"data", 0o2644)
    os.mkdir(top + "/sgid", 0o755)
    os.mkdir(top + "/sticky", 0o755)
    write(top + "/sticky/theirs", b"theirs", 0o666)
    write(top + "/sticky/mine", b"mine", 0o666)
    write(top + "/group-file", b"group", 0o664)
    if owner:
        for name in ("suid", "sgid-noexec", "sticky/mine"):
            os.chown(top + "/" + name, *owner)
        os.chown(top + "/suid", owner[0], owner[1])
        os.chown(top + "/sgid", 0, EXTRA_GROUP)
        os.chown(top + "/group-file", 0, EXTRA_GROUP)
        # chown took them away
        os.chmod(top + "/suid", 0o6755)
        os.chmod(top + "/sgid-noexec", 0o2644)
    write(top + "/root-file", b"root's", 0o644)
    if owner:
        os.setxattr(top + "/root-file", "trusted.of-root", b"1")
        os.setxattr(top + "/root-file", "user.of-all", b"1")
    write(top + "/root-secret", b"root's", 0o600)
    os.mkdir(top + "/root-dir", 0o755)
    write(top + "/root-dir/inside", b"in", 0o666)
    os.mkdir(top + "/root-closed", 0o700)
    write(top + "/root-closed/inside", b"in", 0o666)
    if owner:
        build_acls(top)
    os.chmod(top + "/sgid", 0o2777)
    os.chmod(top + "/sticky", 0o1777)
    settle(top)


def build_acls(top):
    """Root's files, of which ACLs say what the ordinary user may."""
    owner, other = (calls.USER_OBJ, 6, calls.NO_ID), (calls.OTHER, 0, calls.NO_ID)
    group, mask = (calls.GROUP_OBJ, 0, calls.NO_ID), (calls.MASK, 7, calls.NO_ID)
    for name, entries in (
            ("acl-read-write", (owner, (calls.USER, 6, USER), group, mask, other)),
            ("acl-denied", (owner, (calls.USER, 0, USER), group, mask, (calls.OTHER, 6, calls.NO_ID))),
            ("acl-masked", (owner, (calls.USER, 6, USER), group, (calls.MASK, 4, calls.NO_ID), other)),
            ("acl-by-group", (owner, group, (calls.GROUP, 4, EXTRA_GROUP), mask, other)),
            ("acl-another", (owner, (calls.USER, 6, USER + 1), group, mask, other))):
        write(top + "/" + name, b"guarded", 0o600)
        os.setxattr(top + "/" + name, calls.ACL_ACCESS, calls.acl(*entries))
    os.mkdir(top + "/acl-dir", 0o700)
    write(top + "/acl-dir/inside", b"in", 0o644)
    entries = ((calls.USER_OBJ, 7, calls.NO_ID), (calls.USER, 7, USER), group, mask, other)
    os.setxattr(top + "/acl-dir", calls.ACL_ACCESS, calls.acl(*entries))
    os.setxattr(top + "/acl-dir", calls.ACL_DEFAULT, calls.acl(*entries))


def give(top, owner):
    if not owner:
        return
    for directory, names, files in os.walk(top):
        for name in names + files:
            os.lchown(os.path.join(directory, name), *owner)
    os.chown(top, *owner)


def copy_up(top):
    """Touches everything in a way that leaves no difference: attributes, and a byte of each file."""
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(directory, name)
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode) and info.st_size:
                if os.access(path, os.R_OK | os.W_OK):
                    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                    os.pwrite(fd, os.pread(fd, 1, 0), 0)
                    os.close(fd)
                os.chmod(path, stat.S_IMODE(info.st_mode))
    settle(top)


def now():
    """A time that every ctime from now on is at least (the kernel's clock ticks coarsely), and none from
    before the cases began."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) - 15_000_000


def snapshot(top, since=None, contents=True):
    """One line for each entry below `top`, in order of the paths: everything that stat, read, readlink and
    xattrs say, numbers of inodes replaced by the first path that has them. `since`: also whether mtime is
    still OLD and whether ctime is older than that."""
    lines = []
    first_path = {}
    pending = [""]
    while pending:
        relative = pending.pop()
        path = top + relative
        info = os.lstat(path)
        key = (info.st_dev, info.st_ino)
        first = first_path.setdefault(key, relative or "/")
        size = "-" if stat.S_ISDIR(info.st_mode) else info.st_size
        line = "%s = %s %06o nlink %d %d:%d size %s rdev %d" % (
            relative or "/", first, info.st_mode, info.st_nlink, info.st_uid, info.st_gid, size, info.st_rdev)
        if since is not None:
            line += " mtime %s ctime %s" % ("old" if info.st_mtime_ns == OLD else "new",
                                            "new" if info.st_ctime_ns >= since else "old")
        try:
            if stat.S_ISLNK(info.st_mode):
                line += " -> " + os.readlink(path)
            elif stat.S_ISREG(info.st_mode) and contents:
                with open(path, "rb") as file:
                    line += " %08x" % zlib.crc32(file.read())
            elif stat.S_ISDIR(info.st_mode):
                pending += sorted((relative + "/" + name for name in os.listdir(path)), reverse=True)
            for name in sorted(os.listxattr(path, follow_symlinks=False)):
                line += " %s=%s" % (name, os.getxattr(path, name, follow_symlinks=False).hex())
        except OSError as error:
            line += " errno %d" % error.errno
        lines.append(line)
    return lines
