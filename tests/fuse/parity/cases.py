# SPDX-License-Identifier: Apache-2.0
"""Single cases in a full fixture: sequences of calls where one alone would not show it."""
import ctypes
import errno
import fcntl
import mmap
import os
import stat
import subprocess

import calls

CASES = []


def case(function):
    CASES.append((function.__name__.replace("_", " "), function))
    return function


# ---- reading and writing

@case
def write_in_the_middle_of_a_large_file(r):
    r.write("big", b"changed", os.O_WRONLY, 300_000)
    r.write("big", b"start", os.O_WRONLY, 0)
    r.write("big", b"past the end", os.O_WRONLY, 600_000)
    r.read("big")
    r.stat("big")


@case
def truncate_a_large_file_down_and_up(r):
    r.do("down", os.truncate, r.p("big"), 100_001)
    r.do("up", os.truncate, r.p("big"), 200_000)
    data = r.read("big")
    r.note("zeros after the cut", data is not None and data[100_001:] == bytes(99_999))
    r.write("big", b"x", os.O_WRONLY, 150_000)
    r.read("big")


@case
def an_open_file_sees_what_is_written_later(r):
    reading = r.open("big", os.O_RDONLY)
    r.do("before", os.pread, reading, 16, 0)
    r.write("big", b"LATER", os.O_WRONLY)
    r.do("after", os.pread, reading, 16, 0)
    r.do("fstat", os.fstat, reading)


@case
def a_mapping_sees_what_is_written_later(r):
    reading = r.open("big", os.O_RDONLY)
    with mmap.mmap(reading, 0, prot=mmap.PROT_READ) as mapping:
        r.note("before", mapping[:8])
        r.write("big", b"MAPPED", os.O_WRONLY)
        r.note("after", mapping[:8])


@case
def a_shared_mapping_writes(r):
    fd = r.open("big", os.O_RDWR)
    with mmap.mmap(fd, 8192) as mapping:
        mapping[10:14] = b"mmap"
        mapping.flush()
    r.do("pread", os.pread, fd, 20, 0)
    r.read("big")


@case
def appends_by_two_descriptors(r):
    one = r.open("f", os.O_WRONLY | os.O_APPEND)
    two = r.open("hl", os.O_WRONLY | os.O_APPEND)
    for fd, data in ((one, b"1"), (two, b"22"), (one, b"333")):
        r.do("write", os.write, fd, data)
    r.read("f")
    r.stat("hl")


@case
def seek_data_and_hole(r):
    fd = r.open("sparse", os.O_RDWR)
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        for offset in (0, 4096, 1 << 20, (1 << 20) + 3, (1 << 20) + 4, 1 << 21, -1):
            r.do("lseek %d %d" % (offset, whence), os.lseek, fd, offset, whence)
    r.do("pwrite", os.pwrite, fd, b"island.." * 512, 512 * 1024)  # a block: where holes begin is up to it
    r.do("data", os.lseek, fd, 8192, os.SEEK_DATA)
    r.do("hole", os.lseek, fd, 512 * 1024, os.SEEK_HOLE)
    for offset, whence in ((-1, os.SEEK_SET), (5, os.SEEK_END), (1 << 42, os.SEEK_SET), (0, 9)):
        r.do("seek %d %d" % (offset, whence), os.lseek, fd, offset, whence)


@case
def blocks_of_sparse_files(r):
    """st_blocks is what du, cp --sparse=auto and tar -S decide by."""
    def blocks(label, name, content):
        """ext4 counts a block more where the extents outgrow the inode, which depends on where it found room."""
        counted = os.stat(r.p(name)).st_blocks
        r.note("%s, blocks of %s" % (label, name), content if content <= counted <= content + 8 else counted)

    r.write("hole", b"")
    blocks("empty", "hole", 0)
    r.do("grow", os.truncate, r.p("hole"), 10 << 20)
    blocks("all hole", "hole", 0)
    r.write("hole", b"x", os.O_WRONLY, 5 << 20)
    blocks("one byte", "hole", 8)
    r.write("hole", b"y" * 4096, os.O_WRONLY, 10 << 20)
    blocks("and behind the end", "hole", 16)
    r.do("shrink", os.truncate, r.p("hole"), 1 << 20)
    blocks("cut before the data", "hole", 0)
    r.write("far", b"z" * 5000, os.O_WRONLY | os.O_CREAT, 16 << 20)
    blocks("a gap first", "far", 16)
    r.write("dense", b"d" * 100_000)
    blocks("dense", "dense", 200)
    fd = r.open("dense", os.O_RDWR)
    r.do("punch", calls.fallocate, fd, calls.FALLOC_PUNCH_HOLE | calls.FALLOC_KEEP_SIZE, 8192, 40960)
    blocks("punched", "dense", 120)
    r.write("dense", b"e" * 20_000, os.O_WRONLY, 12_288)
    blocks("filled in part", "dense", 160)
    r.do("reserve", calls.fallocate, fd, calls.FALLOC_KEEP_SIZE, 200_704, 40_960)
    blocks("reserved beyond the end", "dense", 240)
    r.do("allocate", calls.fallocate, fd, 0, 0, 409_600)
    blocks("allocated", "dense", 800)
    r.do("empty it", os.truncate, r.p("dense"), 0)
    blocks("emptied", "dense", 0)
    for name, content in (("big", 1024), ("f", 8)):
        blocks("as it came", name, content)
    r.write("big", b"changed", os.O_WRONLY, 100_000)
    r.write("big", b"changed" * 1000, os.O_WRONLY, 524_280)
    blocks("written inside and over the end", "big", 1040)
    r.do("grow", os.truncate, r.p("big"), 4 << 20)
    blocks("and grown", "big", 1040)
    big = r.open("big", os.O_RDWR)
    r.do("punch", calls.fallocate, big, calls.FALLOC_PUNCH_HOLE | calls.FALLOC_KEEP_SIZE, 8192, 65_536)
    blocks("punched", "big", 912)
    r.do("cut", os.truncate, r.p("big"), 300_000)
    blocks("and cut", "big", 464)
    r.do("long link", os.symlink, "t" * 200, r.p("long"))
    r.note("links", [os.lstat(r.p(name)).st_blocks for name in ("l", "long")])

    r.write("sparse", b"mid", os.O_WRONLY, 512 * 1024)
    subprocess.run(["cp", "--sparse=auto", r.p("sparse"), r.p("copy")], check=False)
    subprocess.run("tar -cSf - -C '%s' hole | tar -xf - -C '%s'" % (r.root, r.p("sub")), shell=True, check=False)
    for name, content in (("copy", 24), ("sub/hole", 0)):
        blocks("copied", name, content)
    # Over an object with holes the count is an upper bound: a block that was rewritten may be counted twice.
    r.note("written to, is still sparse", os.stat(r.p("sparse")).st_blocks <= 40)
    names = ["hole", "far", "dense", "big"]
    counted = ["%d\t%s" % (os.stat(r.p(name)).st_blocks // 2, name) for name in names]
    r.do("du", lambda: subprocess.run(["du", "-k", *names], cwd=r.root, check=False, capture_output=True,
                                      text=True).stdout.splitlines() == counted)


@case
def fallocate_modes(r):
    fd = r.open("big", os.O_RDWR)
    for mode, offset, length in ((0, 0, 1000), (0, 600_000, 5000), (calls.FALLOC_KEEP_SIZE, 700_000, 100),
                                 (calls.FALLOC_PUNCH_HOLE | calls.FALLOC_KEEP_SIZE, 4096, 8192),
                                 (calls.FALLOC_PUNCH_HOLE, 0, 10), (calls.FALLOC_ZERO, 100_000, 50_000),
                                 (calls.FALLOC_ZERO | calls.FALLOC_KEEP_SIZE, 900_000, 10),
                                 (0, -1, 10), (0, 0, 0), (0, 0, -5), (0x8000, 0, 10)):
        r.do("fallocate %d %d %d" % (mode, offset, length), calls.fallocate, fd, mode, offset, length)
        r.do("fstat", os.fstat, fd)
    r.read("big")
    reading = r.open("big", os.O_RDONLY)
    r.do("fallocate of a reader", calls.fallocate, reading, 0, 0, 10)


@case
def copy_file_range_and_sendfile(r):
    source = r.open("big", os.O_RDONLY)
    target = r.open("copy", os.O_RDWR | os.O_CREAT)
    r.do("copy", os.copy_file_range, source, target, 300_000, 1000, 5)
    r.do("copy at the end", os.copy_file_range, source, target, 1000, 600_000, 0)
    r.do("fstat", os.fstat, target)
    r.read("copy")
    both = r.open("big", os.O_RDWR)
    r.do("within one", os.copy_file_range, both, both, 1000, 0, 400_000)
    r.do("overlapping", os.copy_file_range, both, both, 1000, 0, 500)
    r.do("to a reader", os.copy_file_range, both, source, 10, 0, 0)
    r.do("sendfile", os.sendfile, target, source, 0, 7000)
    r.read("copy")
    r.read("big")


@case
def vectors_and_limits(r):
    fd = r.open("v", os.O_RDWR | os.O_CREAT)
    r.do("pwritev", os.pwritev, fd, [b"one", b"two", b"", b"three" * 9000], 100)
    buffers = [bytearray(5), bytearray(0), bytearray(100_000)]
    r.do("preadv", os.preadv, fd, buffers, 98)
    r.note("read", bytes(buffers[0]))
    r.do("write nothing", os.pwrite, fd, b"", 1 << 30)
    r.do("fstat", os.fstat, fd)
    r.do("far", os.pwrite, fd, b"x", (1 << 40))
    r.do("size", os.fstat, fd)
    r.do("read beyond", os.pread, fd, 10, (1 << 40) + 1)
    r.do("cut", os.ftruncate, fd, 10)
    reading = r.open("v", os.O_RDONLY)
    r.do("write to a reader", os.write, reading, b"x")
    r.do("truncate a reader", os.ftruncate, reading, 0)
    writing = r.open("v", os.O_WRONLY)
    r.do("read of a writer", os.read, writing, 1)
    directory = r.open("sub", os.O_RDONLY)
    r.do("read of a directory", os.read, directory, 1)
    r.do("fsync of a directory", os.fsync, directory)
    r.do("fdatasync", os.fdatasync, writing)
    r.do("fsync", os.fsync, writing)


# ---- unlinked but open, names that move

@case
def unlinked_but_open(r):
    fd = r.open("big", os.O_RDWR)
    r.do("unlink", os.unlink, r.p("big"))
    r.do("fstat", os.fstat, fd)
    r.do("pread", os.pread, fd, 64, 1000)
    r.do("pwrite", os.pwrite, fd, b"still here", 1000)
    r.do("pread", os.pread, fd, 64, 1000)
    r.do("ftruncate", os.ftruncate, fd, 2000)
    r.do("fchmod", os.fchmod, fd, 0o600)
    r.do("fsetxattr", os.setxattr, fd, "user.late", b"1")
    r.do("fstat", os.fstat, fd)
    r.do("link back", calls.link_open_file, fd, r.p("back"))
    r.do("same name", os.open, r.p("big"), os.O_RDONLY)


@case
def unlink_one_of_two_names(r):
    fd = r.open("hl", os.O_RDWR)
    r.do("unlink", os.unlink, r.p("f"))
    r.do("fstat", os.fstat, fd)
    r.stat("hl")
    r.do("write", os.write, fd, b"J")
    r.read("hl")
    r.do("link again", os.link, r.p("hl"), r.p("f2"))
    r.stat("f2")


@case
def a_directory_removed_while_open(r):
    fd = r.open("empty", os.O_RDONLY)
    r.do("rmdir", os.rmdir, r.p("empty"))
    r.do("fstat", os.fstat, fd)
    r.do("create in it", os.open, "x", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fd)
    r.do("mkdir in it", os.mkdir, "y", dir_fd=fd)
    r.do("listdir", os.listdir, fd)
    r.do("fchmod", os.fchmod, fd, 0o700)


@case
def a_directory_replaced_by_rename(r):
    fd = r.open("empty", os.O_RDONLY)
    r.do("rename", os.rename, r.p("sub"), r.p("empty"))
    r.do("fstat of the old", os.fstat, fd)
    r.do("listdir of the old", os.listdir, fd)
    r.read("empty/g")
    r.stat("empty")
    r.stat("")


@case
def nlink_of_parents(r):
    for step in ((os.mkdir, "sub/a"), (os.mkdir, "sub/b"), (os.rmdir, "sub/a")):
        r.do(step[1], step[0], r.p(step[1]))
        r.do("sub", os.stat, r.p("sub"))
    r.do("move away", os.rename, r.p("sub/b"), r.p("empty/b"))
    r.do("sub", os.stat, r.p("sub"))
    r.do("empty", os.stat, r.p("empty"))
    r.do("exchange", calls.renameat2, r.p("empty/b"), r.p("f"), calls.RENAME_EXCHANGE)
    r.do("empty", os.stat, r.p("empty"))
    r.do("top", os.stat, r.root)


@case
def rename_a_directory_and_use_it(r):
    inside = r.open("sub/g", os.O_RDWR)
    r.do("rename", os.rename, r.p("sub"), r.p("moved"))
    r.do("write by the old descriptor", os.write, inside, b"DEEP")
    r.read("moved/g")
    r.do("mkdir", os.mkdir, r.p("moved/new"))
    r.do("into itself", os.rename, r.p("moved"), r.p("moved/new/x"))
    r.do("dotdot", os.stat, r.p("moved/new/.."))
    r.do("recreate", os.mkdir, r.p("sub"))
    r.do("is empty", os.listdir, r.p("sub"))
    r.do("back onto it", os.rename, r.p("moved"), r.p("sub"))
    r.do("listdir", lambda: sorted(os.listdir(r.p("sub"))))
    r.do("parent of sub/new", lambda: os.path.samefile(r.p("sub/new/.."), r.p("sub")))


@case
def remove_and_recreate_as_every_type(r):
    makers = {"file": lambda p: os.close(os.open(p, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)),
              "directory": os.mkdir, "link": lambda p: os.symlink("x", p), "fifo": os.mkfifo}
    for target in ("f", "empty", "l", "fifo"):
        for kind, make in makers.items():
            remove = os.rmdir if stat.S_ISDIR(os.lstat(r.p(target)).st_mode) else os.unlink
            r.do("remove %s" % target, remove, r.p(target))
            r.do("gone", os.lstat, r.p(target))
            r.do("make %s" % kind, make, r.p(target))
            r.do("twice", make, r.p(target))
            r.stat(target)
    r.do("listdir", lambda: sorted(os.listdir(r.root)))


@case
def remove_everything_and_make_it_again(r):
    subprocess.run(["rm", "-rf", r.p("sub"), r.p("sticky"), r.p("root-dir")], check=False, stderr=subprocess.DEVNULL)
    r.do("left", lambda: sorted(os.listdir(r.root)))
    r.do("mkdir", os.mkdir, r.p("sub"))
    r.do("nothing shows through", os.listdir, r.p("sub"))
    r.write("sub/g", b"new")
    r.read("sub/g")


@case
def tmpfile_and_linkat(r):
    fd = r.open("sub", os.O_RDWR | os.O_TMPFILE, 0o640)
    r.do("fstat", os.fstat, fd)
    r.do("write", os.write, fd, b"unnamed")
    r.do("listdir", lambda: sorted(os.listdir(r.p("sub"))))
    r.do("linkat", calls.link_open_file, fd, r.p("sub/named"))
    r.do("fstat", os.fstat, fd)
    r.read("sub/named")
    r.do("a second name", calls.link_open_file, fd, r.p("sub/second"))
    r.do("onto a name that is there", calls.link_open_file, fd, r.p("sub/g"))
    r.do("write by the descriptor", os.pwrite, fd, b"UN", 0)
    r.read("sub/second")
    r.do("unlink both", lambda: [os.unlink(r.p("sub/" + name)) for name in ("named", "second")])
    r.do("fstat", os.fstat, fd)
    r.do("never a name again", calls.link_open_file, fd, r.p("sub/again"))
    never = r.open("sub", os.O_RDWR | os.O_TMPFILE | os.O_EXCL, 0o640)
    r.do("linkat of O_EXCL", calls.link_open_file, never, r.p("sub/never"))
    dropped = r.open("", os.O_RDWR | os.O_TMPFILE)
    r.note("in nothing", dropped)


@case
def hard_links_stay_linked(r):
    r.write("f", b"HELLO", os.O_WRONLY)
    r.read("hl")
    r.do("chmod", os.chmod, r.p("hl"), 0o600)
    r.stat("f")
    r.do("same file", lambda: os.path.samefile(r.p("f"), r.p("hl")))
    r.do("link", os.link, r.p("hl"), r.p("sub/third"))
    r.stat("f")
    r.do("rename onto its own other name", os.rename, r.p("f"), r.p("hl"))
    r.do("both stay", lambda: sorted(os.listdir(r.root)))
    r.do("exchange with its other name", calls.renameat2, r.p("f"), r.p("hl"), calls.RENAME_EXCHANGE)
    r.do("link of a directory", os.link, r.p("sub"), r.p("sub2"))
    r.do("link of a link", os.link, r.p("l"), r.p("l2"), follow_symlinks=False)
    r.do("readlink", os.readlink, r.p("l2"))
    r.stat("l")


@case
def inode_numbers_stay(r):
    before = {name: os.lstat(r.p(name)).st_ino for name in ("f", "big", "sub", "l", "fifo")}
    device = os.lstat(r.p("f")).st_dev
    r.write("f", b"x", os.O_WRONLY)
    r.write("big", b"x", os.O_WRONLY)
    r.do("chmod", os.chmod, r.p("sub"), 0o700)
    r.do("rename", os.rename, r.p("sub"), r.p("sub-moved"))
    r.do("utime", os.utime, r.p("l"), ns=(1, 1), follow_symlinks=False)
    r.do("chmod fifo", os.chmod, r.p("fifo"), 0o600)
    after = {name: os.lstat(r.p(name.replace("sub", "sub-moved"))).st_ino for name in before}
    r.note("same numbers", before == after)
    r.note("same device", os.lstat(r.p("f")).st_dev == device)
    entries = {entry.name: entry.inode() for entry in os.scandir(r.root)}
    r.note("readdir agrees", all(entries[name] == os.lstat(r.p(name)).st_ino for name in entries))


# ---- listings

@case
def types_in_listings(r):
    kinds = []
    for entry in os.scandir(r.root):
        kinds.append((entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False),
                      entry.is_symlink()))
    r.note("types", sorted(kinds))


@case
def a_listing_while_entries_change(r):
    """Every entry that stays the whole time is seen exactly once; cookies lead back to where they were."""
    os.mkdir(r.p("many"))
    names = ["stay-%03d" % i for i in range(300)] + ["go-%03d" % i for i in range(300)]
    for name in names:
        os.close(os.open(r.p("many/" + name), os.O_CREAT | os.O_WRONLY))
    seen = []
    with os.scandir(r.p("many")) as listing:
        for number, entry in enumerate(listing):
            seen.append(entry.name)
            if number == 10:
                for i in range(300):
                    os.unlink(r.p("many/go-%03d" % i))
                for i in range(300):
                    os.close(os.open(r.p("many/new-%03d" % i), os.O_CREAT | os.O_WRONLY))
    r.note("stayers once each", sorted(n for n in seen if n.startswith("stay")) == names[:300])
    r.note("no name twice", len(seen) == len(set(seen)))
    libc = calls.LIBC
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    stream = ctypes.c_void_p(libc.opendir(os.fsencode(r.p("many"))))
    positions = []
    while True:
        at = libc.telldir(stream)
        entry = libc.readdir(stream)
        if not entry:
            break
        positions.append((at, ctypes.string_at(entry + 19)))
    wrong = 0
    for at, name in positions[::-7]:
        libc.seekdir(stream, ctypes.c_long(at))
        wrong += ctypes.string_at(libc.readdir(stream) + 19) != name
    libc.rewinddir(stream)
    again = 0
    while libc.readdir(stream):
        again += 1
    libc.closedir(stream)
    r.note("entries", len(positions))
    r.note("wrong after seekdir", wrong)
    r.note("again after rewinddir", again)


@case
def names_of_every_kind(r):
    for name in (b"\xff\xfe", b"new\nline", b"n" * 255, b"...", b".wh.x", b".wh..wh..opq", b" ", b"a\\b", b"*"):
        path = os.fsencode(r.p("sub")) + b"/" + name
        r.do("create %r" % name[:20], lambda: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)))
        r.do("lookup", os.stat, path)
    r.do("listdir", lambda: sorted(os.listdir(os.fsencode(r.p("sub")))))
    deep = r.p("sub")
    for _ in range(30):
        deep += "/" + "d" * 100
        os.mkdir(deep)
    r.do("deep", os.stat, deep)


@case
def symbolic_links(r):
    r.do("long", os.symlink, "t" * 4095, r.p("long"))
    r.do("too long", os.symlink, "t" * 4096, r.p("too-long"))
    r.do("empty", os.symlink, "", r.p("no-target"))
    r.do("readlink", os.readlink, r.p("long"))
    r.do("loop", os.symlink, "loop", r.p("loop"))
    r.do("follow a loop", os.stat, r.p("loop"))
    r.do("through", os.stat, r.p("dl/g"))
    r.do("chmod follows", os.chmod, r.p("l"), 0o600)
    r.do("xattr on it", os.setxattr, r.p("l"), "trusted.x", b"1", follow_symlinks=False)
    r.do("user xattr on it", os.setxattr, r.p("l"), "user.x", b"1", follow_symlinks=False)
    r.do("lstat", os.lstat, r.p("long"))


# ---- xattrs

@case
def xattrs(r):
    path = r.p("attr")
    r.do("list", lambda: sorted(os.listxattr(path)))
    r.do("get", os.getxattr, path, "user.one")
    r.do("create existing", os.setxattr, path, "user.one", b"x", os.XATTR_CREATE)
    r.do("replace missing", os.setxattr, path, "user.three", b"x", os.XATTR_REPLACE)
    r.do("create", os.setxattr, path, "user.three", b"333", os.XATTR_CREATE)
    r.do("replace", os.setxattr, path, "user.one", b"", os.XATTR_REPLACE)
    r.do("get empty", os.getxattr, path, "user.one")
    r.do("remove", os.removexattr, path, "user.two")
    r.do("remove again", os.removexattr, path, "user.two")
    r.do("set again", os.setxattr, path, "user.two", b"back")
    r.do("list", lambda: sorted(os.listxattr(path)))
    r.do("no namespace", os.setxattr, path, "plain", b"x")
    r.do("unknown namespace", os.setxattr, path, "foo.bar", b"x")
    r.do("empty name", os.setxattr, path, "user.", b"x")
    r.do("long name", os.setxattr, path, "user." + "n" * 250, b"x")
    r.do("too long name", os.setxattr, path, "user." + "n" * 251, b"x")
    r.do("too long value", os.setxattr, path, "user.big", bytes(70_000))
    r.do("trusted", os.setxattr, path, "trusted.t", b"t")
    if not calls.in_user_namespace():  # where the mount belongs to the namespace, and the plain directory does not
        r.do("security", os.setxattr, path, "security.s", b"s")
    r.do("list", lambda: sorted(os.listxattr(path)))
    r.do("on a fifo", os.setxattr, r.p("fifo"), "user.x", b"1")
    r.do("trusted on a fifo", os.setxattr, r.p("fifo"), "trusted.x", b"1")
    r.do("on a directory", os.setxattr, r.p("sub"), "user.x", b"1")
    libc = calls.LIBC
    buffer = ctypes.create_string_buffer(2)
    got = libc.getxattr(os.fsencode(path), b"user.three", buffer, ctypes.c_size_t(2))
    r.note("short buffer", errno.errorcode[ctypes.get_errno()] if got < 0 else got)
    r.note("size only", libc.getxattr(os.fsencode(path), b"user.three", None, ctypes.c_size_t(0)))
    got = libc.listxattr(os.fsencode(path), buffer, ctypes.c_size_t(2))
    r.note("short list", errno.errorcode[ctypes.get_errno()] if got < 0 else got)


@case
def file_capabilities(r):
    value = bytes.fromhex("0100000200200000" + "00" * 12)
    r.do("set", os.setxattr, r.p("script"), "security.capability", value)
    r.do("get", os.getxattr, r.p("script"), "security.capability")
    r.write("script", b"#", os.O_WRONLY)
    r.do("after a write", os.getxattr, r.p("script"), "security.capability")
    r.do("set", os.setxattr, r.p("script"), "security.capability", value)
    r.do("chown", os.chown, r.p("script"), os.getuid(), os.getgid())
    r.do("after chown", os.getxattr, r.p("script"), "security.capability")
    r.do("set", os.setxattr, r.p("script"), "security.capability", value)
    r.do("truncate", os.truncate, r.p("script"), 3)
    r.do("after truncate", os.getxattr, r.p("script"), "security.capability")


# ---- locks and execution

@case
def locks(r):
    one, two = r.open("f", os.O_RDWR), r.open("hl", os.O_RDWR)
    r.do("flock", fcntl.flock, one, fcntl.LOCK_EX)
    r.do("flock by another", fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
    r.do("unlock", fcntl.flock, one, fcntl.LOCK_UN)
    r.do("flock by another", fcntl.flock, two, fcntl.LOCK_SH | fcntl.LOCK_NB)
    r.do("posix lock", fcntl.lockf, one, fcntl.LOCK_EX, 10, 0)
    child = os.fork()
    if child == 0:
        try:
            fcntl.lockf(two, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 2)
            os._exit(0)
        except OSError as error:
            os._exit(error.errno)
    r.note("posix lock by another process", errno.errorcode.get(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    lock = bytearray(__import__("struct").pack("hhlli", fcntl.F_WRLCK, 0, 0, 10, 0))
    r.do("ofd lock", lambda: bool(fcntl.fcntl(one, 37, bytes(lock))))
    r.do("ofd lock by another", lambda: bool(fcntl.fcntl(two, 37, bytes(lock))))


@case
def execute_what_was_just_written(r):
    r.do("the old", lambda: subprocess.run([r.p("script")], capture_output=True, check=False).stdout)
    r.write("tool", b"#!/bin/sh\necho new $((40 + 2))\n")
    r.do("not yet", lambda: subprocess.run([r.p("tool")], capture_output=True, check=False).stdout)
    r.do("chmod", os.chmod, r.p("tool"), 0o755)
    r.do("run", lambda: subprocess.run([r.p("tool")], capture_output=True, check=False).stdout)
    writing = r.open("binary", os.O_WRONLY | os.O_CREAT, 0o755)
    with open("/bin/true", "rb") as file:
        os.write(writing, file.read())
    r.do("busy", lambda: subprocess.run([r.p("binary")], check=False).returncode)
    r.close(writing)
    r.do("run", lambda: subprocess.run([r.p("binary")], check=False).returncode)


@case
def odd_calls(r):
    fd = r.open("f", os.O_RDWR)
    r.do("clone", fcntl.ioctl, fd, 0x40049409, fd)
    r.do("unknown ioctl", fcntl.ioctl, fd, 0x1234)
    r.do("fadvise", os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_DONTNEED)
    r.do("readahead", os.posix_fadvise, fd, 0, 4096, os.POSIX_FADV_WILLNEED)
    r.do("statvfs", os.statvfs, r.root)
    r.do("whiteout", calls.renameat2, r.p("f"), r.p("w"), calls.RENAME_WHITEOUT | calls.RENAME_NOREPLACE | 8)
    r.do("both flags", calls.renameat2, r.p("f"), r.p("w"), calls.RENAME_EXCHANGE | calls.RENAME_NOREPLACE)
    r.do("direct", os.stat, r.p("f"))
    r.do("pipe", os.stat, r.p("fifo"))
    r.do("chdir", os.stat, r.p("sub/../sub/./g"))
    other = r.open("fifo", os.O_RDWR)
    r.do("through the fifo", os.write, other, b"data")
    r.do("out of the fifo", os.read, other, 10)
    # A pipe's traffic changes its times on ext4; FUSE's kernel side keeps none for files that it does not send.
    r.do("times of the fifo", os.utime, r.p("fifo"))
