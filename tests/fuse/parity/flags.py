# SPDX-License-Identifier: Apache-2.0
"""Flags, modes and errnos that the matrices leave out: one call after another where the man page names them; and
which times each call moves."""
import ctypes
import errno
import fcntl
import os
import stat
import struct
import subprocess
import time

import calls

CASES = []
OPEN_TARGETS = ("f", "sub", "l", "dangling", "dl", "fifo", "none", "ro", "missing", "f/x", "sub/", "f/", "sub/.")
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def case(function):
    CASES.append((function.__name__.replace("_", " "), function))
    return function


@case
def open_flags(r):
    for flags in (os.O_TRUNC, os.O_RDWR | os.O_TRUNC, os.O_APPEND | os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_WRONLY,
                  os.O_DIRECT, os.O_DIRECT | os.O_RDWR, os.O_SYNC | os.O_RDWR, os.O_DSYNC | os.O_WRONLY, os.O_TMPFILE,
                  os.O_TMPFILE | os.O_WRONLY, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, os.O_CREAT | os.O_DIRECTORY,
                  os.O_CREAT | os.O_NOFOLLOW | os.O_RDWR, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, os.O_NOATIME,
                  os.O_NOATIME | os.O_RDWR, os.O_DIRECTORY | os.O_NOFOLLOW, os.O_DIRECTORY | os.O_WRONLY,
                  os.O_PATH | os.O_DIRECTORY, os.O_PATH | os.O_CREAT | os.O_TRUNC):
        for target in OPEN_TARGETS:
            fd = r.open(target, flags, 0o640)
            if fd is None:
                continue
            r.do("flags", lambda: oct(fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NOATIME))
            r.do("fstat", os.fstat, fd)
            r.close(fd)


@case
def what_a_path_descriptor_can_do(r):
    for target in ("f", "sub", "l", "fifo"):
        fd = r.open(target, os.O_PATH | os.O_NOFOLLOW)
        r.do("fstat", os.fstat, fd)
        for label, call in (("read", lambda: os.read(fd, 1)), ("write", lambda: os.write(fd, b"x")),
                            ("fchmod", lambda: os.fchmod(fd, 0o600)), ("fchown", lambda: os.fchown(fd, -1, -1)),
                            ("getxattr", lambda: os.getxattr(fd, "user.x")), ("ftruncate", lambda: os.ftruncate(fd, 0)),
                            ("fsync", lambda: os.fsync(fd)), ("statvfs", lambda: os.fstatvfs(fd)),
                            ("listdir", lambda: sorted(os.listdir(fd))), ("readlink", lambda: os.readlink("", dir_fd=fd)),
                            ("link", lambda: calls.link_open_file(fd, r.p("linked"))),
                            ("below", lambda: os.stat("g", dir_fd=fd)), ("ioctl", lambda: fcntl.ioctl(fd, 0x1234))):
            r.do(label, call)


@case
def which_times_move(r):
    """mtime and ctime of what is changed, of its directory, and of what it replaces."""
    tick = 1.5 * time.clock_getres(6)  # CLOCK_REALTIME_COARSE, which file systems take their times from

    def moved(label, watched, call):
        before = [os.lstat(r.p(name) or r.root) for name in watched]
        time.sleep(tick)
        r.do(label, call)
        for name, old in zip(watched, before):
            try:
                new = os.lstat(r.p(name) or r.root)
            except FileNotFoundError:
                continue
            r.note("%s, of '%s'" % (label, name), "%s%s" % ("mtime " if new.st_mtime_ns != old.st_mtime_ns else "",
                                               "ctime" if new.st_ctime_ns != old.st_ctime_ns else ""))

    def utimens(atime, mtime):
        times = struct.pack("qqqq", 0, atime, 0, mtime)
        if calls.LIBC.utimensat(calls.AT_FDCWD, os.fsencode(r.p("f")), times, 0) != 0:
            raise OSError(ctypes.get_errno(), "utimensat")

    fd = r.open("f", os.O_RDWR)
    replaced = r.open("script", os.O_RDONLY)
    for label, watched, call in (
            ("write", ("f", "hl", ""), lambda: os.write(fd, b"x")), ("write nothing", ("f",), lambda: os.write(fd, b"")),
            ("truncate to the same", ("f",), lambda: os.truncate(r.p("f"), os.stat(r.p("f")).st_size)),
            ("ftruncate to the same", ("f",), lambda: os.ftruncate(fd, os.fstat(fd).st_size)),
            ("shorter", ("f",), lambda: os.truncate(r.p("f"), 3)),
            ("open trunc", ("f",), lambda: os.close(os.open(r.p("f"), os.O_WRONLY | os.O_TRUNC))),
            ("open trunc of an empty one", ("f",), lambda: os.close(os.open(r.p("f"), os.O_WRONLY | os.O_TRUNC))),
            ("fallocate", ("f",), lambda: calls.fallocate(fd, 0, 0, 100)),
            ("fallocate, same size", ("f",), lambda: calls.fallocate(fd, calls.FALLOC_KEEP_SIZE, 0, 9000)),
            ("punch", ("f",), lambda: calls.fallocate(fd, calls.FALLOC_KEEP_SIZE | calls.FALLOC_PUNCH_HOLE, 0, 10)),
            ("chmod", ("f", ""), lambda: os.chmod(r.p("f"), 0o600)), ("chmod to the same", ("f",), lambda: os.fchmod(fd, 0o600)),
            ("chown of neither", ("f",), lambda: os.chown(r.p("f"), -1, -1)),
            ("setxattr", ("f", ""), lambda: os.setxattr(r.p("f"), "user.new", b"1")),
            ("removexattr", ("f",), lambda: os.removexattr(r.p("f"), "user.new")),
            ("removexattr of none", ("f",), lambda: os.removexattr(r.p("f"), "user.new")),
            ("utimens omit both", ("f",), lambda: utimens(UTIME_OMIT, UTIME_OMIT)),
            ("utimens omit one", ("f",), lambda: utimens(UTIME_OMIT, UTIME_NOW)),
            ("utimens of the other", ("f",), lambda: utimens(UTIME_NOW, UTIME_OMIT)),
            ("utimens out of range", ("f",), lambda: utimens(0, 10**9)),
            ("link", ("f", "", "sub"), lambda: os.link(r.p("f"), r.p("sub/l"))),
            ("unlink one", ("f", "", "sub"), lambda: os.unlink(r.p("sub/l"))),
            ("mkdir", ("", "sub"), lambda: os.mkdir(r.p("sub/d"))), ("mkdir that is there", ("", "sub"), lambda: os.mkdir(r.p("sub"))),
            ("create", ("sub", "sub/d"), lambda: os.close(os.open(r.p("sub/d/f"), os.O_CREAT | os.O_WRONLY))),
            ("open what is there", ("sub/d", "sub/d/f"), lambda: os.close(os.open(r.p("sub/d/f"), os.O_CREAT | os.O_RDWR))),
            ("rename", ("f", "", "sub", "sub/d"), lambda: os.rename(r.p("sub/d"), r.p("moved"))),
            ("rename back", ("moved", "", "sub"), lambda: os.rename(r.p("moved"), r.p("sub/d"))),
            ("rename of one name to the other", ("f", "hl", ""), lambda: os.rename(r.p("f"), r.p("hl"))),
            ("rename over", ("attr", ""), lambda: os.rename(r.p("attr"), r.p("script"))),
            ("exchange", ("f", "sub", "sub/d", ""), lambda: calls.renameat2(r.p("f"), r.p("sub/d"), calls.RENAME_EXCHANGE)),
            ("rmdir", ("", "sub"), lambda: os.rmdir(r.p("empty"))), ("unlink", ("", "sub"), lambda: os.unlink(r.p("fifo"))),
            ("symlink", ("sub",), lambda: os.symlink("x", r.p("sub/sl"))),
            ("lutimes", ("sub/sl", "sub"), lambda: os.utime(r.p("sub/sl"), ns=(1, 1), follow_symlinks=False)),
            ("mkfifo", ("sub",), lambda: os.mkfifo(r.p("sub/p"))), ("tmpfile", ("sub",), lambda: os.close(os.open(
                r.p("sub"), os.O_TMPFILE | os.O_RDWR)))):
        moved(label, watched, call)
    r.do("replaced", os.fstat, replaced)


@case
def the_working_directory_is_removed(r):
    """In a child, whose it is."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        inside = calls.Recorder(r.root)
        os.chdir(r.p("empty"))
        inside.do("rmdir", os.rmdir, r.p("empty"))
        inside.do("getcwd", os.getcwd)
        inside.do("stat", os.stat, ".")
        inside.do("list", os.listdir, ".")
        inside.do("parent", lambda: os.path.samefile("..", r.root))
        for label, call in (("create", lambda: os.open("x", os.O_CREAT | os.O_WRONLY)), ("mkdir", lambda: os.mkdir("x")),
                            ("symlink", lambda: os.symlink("x", "y")), ("link", lambda: os.link(r.p("f"), "f")),
                            ("rename into", lambda: os.rename(r.p("f"), "f")), ("rmdir dot", lambda: os.rmdir(".")),
                            ("tmpfile", lambda: os.open(".", os.O_TMPFILE | os.O_RDWR)), ("chmod", lambda: os.chmod(".", 0o700)),
                            ("setxattr", lambda: os.setxattr(".", "user.x", b"1")), ("utime", lambda: os.utime("."))):
            inside.do(label, call)
        os.write(write_end, "\n".join(inside.trace).replace(r.root, "").encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        r.trace += pipe.read().splitlines()
    os.waitpid(child, 0)


@case
def a_running_program_is_not_written(r):
    for source in ("/bin/sleep", "/usr/bin/sleep"):
        if os.path.exists(source):
            break
    with open(source, "rb") as file:
        r.write("running", file.read())
    os.chmod(r.p("running"), 0o755)
    process = subprocess.Popen([r.p("running"), "10"])
    for _ in range(200):
        if os.path.basename(os.readlink("/proc/%d/exe" % process.pid)) == "running":
            break
        time.sleep(0.01)
    r.open("running", os.O_WRONLY)
    r.open("running", os.O_RDWR | os.O_TRUNC)
    r.do("truncate", os.truncate, r.p("running"), 0)
    r.do("chmod", os.chmod, r.p("running"), 0o700)
    r.do("rename", os.rename, r.p("running"), r.p("moved"))
    r.do("unlink", os.unlink, r.p("moved"))
    process.kill()
    process.wait()


@case
def events_that_are_watched(r):
    libc = calls.LIBC
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    r.fds.append(watch)
    for name in ("", "sub", "f"):
        libc.inotify_add_watch(watch, os.fsencode(r.p(name) or r.root), 0xFFF)
    r.write("f", b"watched", os.O_WRONLY)
    r.do("create", lambda: os.close(os.open(r.p("sub/new"), os.O_CREAT | os.O_WRONLY)))
    r.do("mkdir", os.mkdir, r.p("sub/d"))
    r.do("rename", os.rename, r.p("sub/new"), r.p("new"))
    r.do("chmod", os.chmod, r.p("f"), 0o600)
    r.do("link", os.link, r.p("f"), r.p("sub/f"))
    r.do("setxattr", os.setxattr, r.p("f"), "user.x", b"1")
    r.do("truncate", os.truncate, r.p("f"), 1)
    r.do("unlink", os.unlink, r.p("sub/f"))
    r.do("rmdir", os.rmdir, r.p("sub/d"))
    r.do("list", lambda: len(os.listdir(r.p("sub"))))
    data = os.read(watch, 1 << 16)
    at = 0
    while at < len(data):
        number, mask, _, length = struct.unpack_from("iIII", data, at)
        r.note("event", "%d %#x %s" % (number, mask, data[at + 16:at + 16 + length].rstrip(b"\0").decode()))
        at += 16 + length


@case
def modes_of_access_and_kinds_of_nodes(r):
    for name in ("f", "ro", "none", "sub", "l", "dangling", "script"):
        for mode in range(8):
            r.do("access %s %d" % (name, mode), os.access, r.p(name), mode, effective_ids=True)
            r.do("not followed", os.access, r.p(name), mode, follow_symlinks=False)
    for kind in (0, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR, stat.S_IFLNK, 0o50000):
        name = "node%o" % kind
        r.do("mknod %s" % name, calls.mknod, r.p(name), kind | 0o644, os.makedev(259, 70_000))
        r.stat(name)
    for name in (".", "..", "sub/.", "sub/..", "sub//", "missing/.", "f/.", "f/.."):
        for label, call in (("mkdir", os.mkdir), ("rmdir", os.rmdir), ("unlink", os.unlink), ("mkfifo", os.mkfifo),
                            ("symlink", lambda path: os.symlink("x", path)), ("link", lambda path: os.link(r.p("f"), path)),
                            ("rename away", lambda path: os.rename(path, r.p("away"))),
                            ("rename onto", lambda path: os.rename(r.p("ro"), path)),
                            ("exchange", lambda path: calls.renameat2(r.p("ro"), path, calls.RENAME_EXCHANGE)),
                            ("noreplace", lambda path: calls.renameat2(r.p("ro"), path, calls.RENAME_NOREPLACE))):
            if (name, label) != ("sub//", "rmdir"):
                r.do("%s %s" % (label, name), call, r.p(name))


@case
def flags_of_xattrs(r):
    """Of every kind of file: names of every namespace, and none; creation, replacement; and the sizes."""
    for target in ("f", "sub", "l", "fifo"):
        for name in ("user.a", "trusted.a", "system.a", "bogus.a", "user.", "user", "", calls.ACL_ACCESS, calls.ACL_DEFAULT):
            for flags in (0, os.XATTR_CREATE, os.XATTR_REPLACE, os.XATTR_CREATE | os.XATTR_REPLACE, 4):
                r.do("set %s %s %d" % (target, name, flags), os.setxattr, r.p(target), name, b"v", flags,
                     follow_symlinks=False)
            r.do("get", os.getxattr, r.p(target), name, follow_symlinks=False)
            r.do("remove", os.removexattr, r.p(target), name, follow_symlinks=False)
            r.do("remove again", os.removexattr, r.p(target), name, follow_symlinks=False)


@case
def offsets_at_their_limits(r):
    fd = r.open("big", os.O_RDWR)
    directory = r.open("sub", os.O_RDONLY)
    largest = (1 << 63) - 1
    for offset in (largest, largest - 1, -1):
        r.do("pwrite", os.pwrite, fd, b"ab", offset)
        r.do("pread", os.pread, fd, 2, offset)
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            r.do("lseek %d" % whence, os.lseek, fd, offset, whence)
        r.do("copy", os.copy_file_range, fd, fd, 10, 0, offset)
    for length in (largest, 1 << 62):
        r.do("fallocate", calls.fallocate, fd, 0, 5, length)
    r.do("ftruncate", os.ftruncate, fd, -1)
    r.do("of a directory", os.ftruncate, directory, 0)
    r.do("fallocate of a directory", calls.fallocate, directory, 0, 0, 10)
    r.do("copy from a directory", os.copy_file_range, directory, fd, 10)
    r.do("copy to one that appends", os.copy_file_range, fd, r.open("f", os.O_WRONLY | os.O_APPEND), 10)
    pipe = r.open("fifo", os.O_RDWR)
    for label, call in (("copy", lambda: os.copy_file_range(fd, pipe, 10)), ("ftruncate", lambda: os.ftruncate(pipe, 1)),
                        ("fallocate", lambda: calls.fallocate(pipe, 0, 0, 10)), ("lseek", lambda: os.lseek(pipe, 0, 0)),
                        ("fsync", lambda: os.fsync(pipe)), ("pread", lambda: os.pread(pipe, 1, 0))):
        r.do("%s of a fifo" % label, call)
    r.do("fstat", os.fstat, fd)
