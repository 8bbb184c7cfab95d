# SPDX-License-Identifier: Apache-2.0
"""System calls as Python sees them not: by ctypes, with errno as OSError. And Recorder, which runs calls in
one directory and keeps what each gave: a value, or the name of its errno."""
import ctypes
import errno
import os
import stat

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_COLLAPSE, FALLOC_ZERO = 1, 2, 8, 16
ACL_ACCESS, ACL_DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def _checked(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def renameat2(old, new, flags):
    _checked(LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def link_following(old, new):
    """linkat(2) with AT_SYMLINK_FOLLOW: os.link() calls link(2), which follows nothing."""
    _checked(LIBC.linkat(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), 0x400))


def link_open_file(fd, new):
    """A name for what is open, as open(2) has it for O_TMPFILE."""
    link_following("/proc/self/fd/%d" % fd, new)


def fallocate(fd, mode, offset, length):
    _checked(LIBC.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def mknod(path, mode, device=0):
    """mknod(2) as it is: os.mknod() makes regular files only with S_IFREG given, which is the same."""
    os.mknod(path, mode, device)


def acl(*entries):
    """The bytes of a POSIX ACL: (tag, perm, id)..., version 2 (linux/posix_acl_xattr.h)."""
    import struct
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER, NO_ID = 1, 2, 4, 8, 16, 32, 0xFFFFFFFF


def mode_text(mode):
    kinds = {stat.S_IFREG: "reg", stat.S_IFDIR: "dir", stat.S_IFLNK: "lnk", stat.S_IFIFO: "fifo",
             stat.S_IFSOCK: "sock", stat.S_IFCHR: "chr", stat.S_IFBLK: "blk"}
    return "%s %04o" % (kinds[stat.S_IFMT(mode)], stat.S_IMODE(mode))


def in_user_namespace():
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]


class Recorder:
    """Calls in one case directory. `trace` is what is compared between the mount and the plain directory."""

    def __init__(self, root):
        self.root = root
        self.trace = []
        self.fds = []

    def p(self, name):
        """The path of a name; "" stays empty, so that ENOENT can be had."""
        return self.root + "/" + name if name else ""

    def do(self, label, function, *args, **kwargs):
        """Runs a call, records and returns its value (None after an error)."""
        try:
            value = function(*args, **kwargs)
        except OSError as error:
            self.trace.append("%s: %s" % (label, errno.errorcode.get(error.errno, error.errno)))
            return None
        shown = value
        if isinstance(value, os.stat_result):
            shown = self.stat_text(value)
        elif isinstance(value, os.statvfs_result):
            shown = "namemax %d" % value.f_namemax
        elif isinstance(value, (bytes, bytearray)) and len(value) > 64:
            shown = "%d bytes, %08x" % (len(value), __import__("zlib").crc32(value))
        self.trace.append("%s: %s" % (label, shown))
        return value

    def note(self, label, value):
        self.trace.append("%s: %s" % (label, value))

    @staticmethod
    def stat_text(info):
        size = "-" if stat.S_ISDIR(info.st_mode) else info.st_size
        return "%s nlink %d uid %d gid %d size %s rdev %d" % (
            mode_text(info.st_mode), info.st_nlink, info.st_uid, info.st_gid, size, info.st_rdev)

    def open(self, name, flags, mode=0o666):
        """Opens and records only the outcome: the number is of no interest."""
        try:
            fd = os.open(self.p(name), flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
        except OSError as error:
            self.note("open %s %#o" % (name[:40], flags), errno.errorcode[error.errno])
            return None
        self.note("open %s %#o" % (name[:40], flags), "opened")
        self.fds.append(fd)
        return fd

    def close(self, fd):
        if fd in self.fds:
            self.fds.remove(fd)
            self.do("close", os.close, fd)

    def close_all(self):
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()

    def read(self, name):
        """The whole content, by a fresh descriptor."""
        fd = self.open(name, os.O_RDONLY)
        if fd is None:
            return None
        data = b""
        while True:
            piece = os.read(fd, 1 << 20)
            if not piece:
                break
            data += piece
        self.fds.remove(fd)
        os.close(fd)
        self.do("content %s" % name, lambda: data)
        return data

    def write(self, name, data, flags=os.O_WRONLY | os.O_CREAT, offset=0):
        fd = self.open(name, flags)
        if fd is None:
            return
        self.do("pwrite %s" % name, os.pwrite, fd, data, offset)
        self.close(fd)

    def stat(self, name):
        return self.do("lstat %s" % name, os.lstat, self.p(name))
