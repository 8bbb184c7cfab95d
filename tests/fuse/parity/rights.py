# SPDX-License-Identifier: Apache-2.0
"""Cases about who may do what, umask and ACLs, set-id bits: run as root and as an ordinary user."""
import errno
import os
import stat

import calls
from calls import GROUP_OBJ, MASK, NO_ID, OTHER, USER, USER_OBJ
from fixture import EXTRA_GROUP

CASES = []


def case(function):
    CASES.append((function.__name__.replace("_", " "), function))
    return function


def with_umask(mask, function):
    before = os.umask(mask)
    try:
        return function()
    finally:
        os.umask(before)


def make_all_kinds(r, prefix):
    r.do("open", lambda: os.close(os.open(r.p(prefix + "file"), os.O_CREAT | os.O_WRONLY, 0o7777)))
    r.do("mkdir", os.mkdir, r.p(prefix + "dir"), 0o7777)
    r.do("mknod", calls.mknod, r.p(prefix + "node"), stat.S_IFREG | 0o6777)
    r.do("mkfifo", os.mkfifo, r.p(prefix + "fifo"), 0o777)
    r.do("socket", calls.mknod, r.p(prefix + "sock"), stat.S_IFSOCK | 0o777)
    fd = r.open(os.path.dirname(prefix) or ".", os.O_TMPFILE | os.O_RDWR, 0o6777)
    if fd is not None:
        r.do("tmpfile", os.fstat, fd)
        r.close(fd)
    for name in ("file", "dir", "node", "fifo", "sock"):
        r.stat(prefix + name)


@case
def umask_is_applied_once(r):
    for mask in (0, 0o022, 0o077, 0o777):
        with_umask(mask, lambda m=mask: make_all_kinds(r, "m%o-" % m))


@case
def default_acls(r):
    entries = [(USER_OBJ, 7, NO_ID), (USER, 5, os.getuid()), (GROUP_OBJ, 5, NO_ID), (MASK, 5, NO_ID), (OTHER, 1, NO_ID)]
    r.do("set", os.setxattr, r.p("sub"), calls.ACL_DEFAULT, calls.acl(*entries))
    with_umask(0o077, lambda: make_all_kinds(r, "sub/"))
    r.do("mkdir deeper", lambda: with_umask(0o077, lambda: os.mkdir(r.p("sub/dir/deeper"), 0o700)))
    r.do("symlink", os.symlink, "x", r.p("sub/link"))
    for name in ("sub", "sub/file", "sub/dir", "sub/dir/deeper", "sub/node"):
        for acl in (calls.ACL_ACCESS, calls.ACL_DEFAULT):
            r.do("%s of %s" % (acl, name), os.getxattr, r.p(name), acl)
    r.do("remove", os.removexattr, r.p("sub"), calls.ACL_DEFAULT)
    with_umask(0o027, lambda: make_all_kinds(r, "sub/after-"))
    r.do("default on a file", os.setxattr, r.p("f"), calls.ACL_DEFAULT, calls.acl(*entries))
    r.do("on a link", os.setxattr, r.p("l"), calls.ACL_ACCESS, calls.acl(*entries), follow_symlinks=False)


@case
def access_acls_and_the_mode(r):
    entries = [(USER_OBJ, 6, NO_ID), (USER, 6, 12345), (GROUP_OBJ, 4, NO_ID), (MASK, 6, NO_ID), (OTHER, 0, NO_ID)]
    r.do("set", os.setxattr, r.p("f"), calls.ACL_ACCESS, calls.acl(*entries))
    r.stat("f")
    r.do("chmod", os.chmod, r.p("f"), 0o640)
    r.do("get", os.getxattr, r.p("f"), calls.ACL_ACCESS)
    minimal = [(USER_OBJ, 7, NO_ID), (GROUP_OBJ, 5, NO_ID), (OTHER, 4, NO_ID)]
    r.do("minimal", os.setxattr, r.p("f"), calls.ACL_ACCESS, calls.acl(*minimal))
    r.stat("f")
    r.do("get", os.getxattr, r.p("f"), calls.ACL_ACCESS)
    r.do("set", os.setxattr, r.p("f"), calls.ACL_ACCESS, calls.acl(*entries))
    r.do("list", lambda: sorted(os.listxattr(r.p("f"))))
    r.do("remove", os.removexattr, r.p("f"), calls.ACL_ACCESS)
    r.stat("f")
    r.do("remove again", os.removexattr, r.p("f"), calls.ACL_ACCESS)
    r.do("no mask", os.setxattr, r.p("f"), calls.ACL_ACCESS, calls.acl(*(e for e in entries if e[0] != MASK)))
    r.do("garbage", os.setxattr, r.p("f"), calls.ACL_ACCESS, b"garbage")
    r.do("empty", os.setxattr, r.p("f"), calls.ACL_ACCESS, b"")
    r.do("setgid kept", os.chmod, r.p("f"), 0o2755)
    r.do("set on setgid", os.setxattr, r.p("f"), calls.ACL_ACCESS, calls.acl(*entries))
    r.stat("f")


@case
def what_acls_grant_and_refuse(r):
    """Of root's files that the ordinary user meets; to others they are not there."""
    for name in ("acl-read-write", "acl-denied", "acl-masked", "acl-by-group", "acl-another", "acl-dir"):
        for mode in (os.R_OK, os.W_OK, os.X_OK):
            r.do("access %s %d" % (name, mode), os.access, r.p(name), mode)
        r.do("read", lambda n=name: os.close(os.open(r.p(n), os.O_RDONLY)))
        r.write(name, b"W", os.O_WRONLY)
        r.do("truncate", os.truncate, r.p(name), 3)
        r.do("chmod", os.chmod, r.p(name), 0o777)
        r.do("get", os.getxattr, r.p(name), calls.ACL_ACCESS)
    r.do("list", lambda: sorted(os.listdir(r.p("acl-dir"))))
    r.read("acl-dir/inside")
    r.write("acl-dir/new", b"mine")
    r.stat("acl-dir/new")
    r.do("inherited", os.getxattr, r.p("acl-dir/new"), calls.ACL_ACCESS)
    r.do("mkdir", os.mkdir, r.p("acl-dir/sub"))
    r.stat("acl-dir/sub")
    for acl in (calls.ACL_ACCESS, calls.ACL_DEFAULT):
        r.do("inherited", os.getxattr, r.p("acl-dir/sub"), acl)
    r.do("unlink", os.unlink, r.p("acl-dir/inside"))


@case
def what_others_own(r):
    for name in ("root-file", "root-secret", "root-dir", "root-dir/inside", "root-closed", "root-closed/inside",
                 "group-file", "sticky/theirs"):
        r.do("stat", os.stat, r.p(name))
        r.do("read", lambda n=name: os.close(os.open(r.p(n), os.O_RDONLY)))
        r.do("write", lambda n=name: os.close(os.open(r.p(n), os.O_WRONLY)))
        r.do("list", lambda n=name: sorted(os.listdir(r.p(n))))
        r.do("chmod", os.chmod, r.p(name), 0o777 if "file" in name else 0o755)
        r.do("chown", os.chown, r.p(name), os.getuid(), -1)
        r.do("utime now", os.utime, r.p(name))
        r.do("utime", os.utime, r.p(name), ns=(1, 1))
        r.do("truncate", os.truncate, r.p(name), 1)
        r.do("setxattr", os.setxattr, r.p(name), "user.x", b"1")
        r.do("listxattr", lambda n=name: sorted(os.listxattr(r.p(n))))
        r.do("getxattr", os.getxattr, r.p(name), "trusted.of-root")
        r.do("acl", os.setxattr, r.p(name), calls.ACL_ACCESS,
             calls.acl((USER_OBJ, 7, NO_ID), (GROUP_OBJ, 5, NO_ID), (OTHER, 5, NO_ID)))
        r.do("link", os.link, r.p(name), r.p("linked"))
        r.do("unlink the link", os.unlink, r.p("linked"))
    r.write("root-dir/new", b"x")
    r.do("unlink", os.unlink, r.p("root-dir/inside"))
    r.do("mkdir", os.mkdir, r.p("root-dir/d"))
    r.do("rename", os.rename, r.p("root-dir/inside"), r.p("taken"))
    r.do("rename a directory", os.rename, r.p("root-dir"), r.p("taken-dir"))


@case
def sticky_directories(r):
    r.do("unlink theirs", os.unlink, r.p("sticky/theirs"))
    r.do("rename theirs", os.rename, r.p("sticky/theirs"), r.p("sticky/moved"))
    r.do("rename over theirs", os.rename, r.p("sticky/mine"), r.p("sticky/theirs"))
    r.do("rename away", os.rename, r.p("sticky/theirs"), r.p("away"))
    r.do("exchange", calls.renameat2, r.p("sticky/theirs"), r.p("f"), calls.RENAME_EXCHANGE)
    r.write("sticky/theirs", b"T", os.O_WRONLY)
    r.do("create", lambda: os.close(os.open(r.p("sticky/theirs"), os.O_CREAT | os.O_WRONLY)))
    r.do("unlink mine", os.unlink, r.p("sticky/mine"))


@case
def setgid_directories(r):
    make_all_kinds(r, "sgid/")
    r.do("mkdir below", os.mkdir, r.p("sgid/dir/x"))
    r.stat("sgid/dir/x")
    r.do("symlink", os.symlink, "x", r.p("sgid/link"))
    r.stat("sgid/link")
    r.do("rename into", os.rename, r.p("f"), r.p("sgid/f"))
    r.stat("sgid/f")
    r.do("chmod g+s of a foreign group", os.chmod, r.p("sgid/file"), 0o2755)
    r.stat("sgid/file")


@case
def set_id_bits_go(r):
    """Who writes, truncates or changes the owner takes set-id bits away (not root, for the first two); a chown of
    neither owner nor group too."""
    r.stat("suid")
    r.write("suid", b"#", os.O_WRONLY)
    r.stat("suid")
    r.do("chmod", os.chmod, r.p("suid"), 0o6755)
    r.do("truncate", os.truncate, r.p("suid"), 3)
    r.stat("suid")
    r.do("chmod", os.chmod, r.p("suid"), 0o6755)
    r.do("chown to itself", os.chown, r.p("suid"), os.getuid(), os.getgid())
    r.stat("suid")
    r.do("chmod", os.chmod, r.p("suid"), 0o6755)
    r.do("chgrp", os.chown, r.p("suid"), -1, EXTRA_GROUP)
    r.stat("suid")
    r.do("chmod", os.chmod, r.p("suid"), 0o6755)
    r.do("chown of neither", os.chown, r.p("suid"), -1, -1)
    r.stat("suid")
    r.write("sgid-noexec", b"D", os.O_WRONLY)
    r.stat("sgid-noexec")
    r.do("chgrp", os.chown, r.p("sgid-noexec"), -1, EXTRA_GROUP)
    r.stat("sgid-noexec")
    r.do("chown directory", os.chmod, r.p("sub"), 0o6755)
    r.do("chown", os.chown, r.p("sub"), os.getuid(), os.getgid())
    r.stat("sub")
    r.do("chmod", os.chmod, r.p("suid"), 0o6755)
    fd = r.open("suid", os.O_RDWR)
    if fd is not None:
        r.do("fallocate", calls.fallocate, fd, 0, 0, 9000)
        r.do("fstat", os.fstat, fd)
        r.do("fchmod", os.fchmod, fd, 0o6755)
        source = r.open("big", os.O_RDONLY)
        r.do("copy_file_range", os.copy_file_range, source, fd, 100, 0, 0)
        r.do("fstat", os.fstat, fd)
    r.do("open trunc", lambda: os.chmod(r.p("suid"), 0o6755))
    r.do("open trunc", lambda: os.close(os.open(r.p("suid"), os.O_WRONLY | os.O_TRUNC)))
    r.stat("suid")


@case
def chown_rules(r):
    for uid, gid in ((0, 0), (-1, 0), (12345, -1), (os.getuid(), EXTRA_GROUP), (os.getuid(), 777), (-1, os.getgid())):
        r.do("chown %d %d" % (uid, gid), os.chown, r.p("f"), uid, gid)
        r.stat("f")
        r.do("lchown %d %d" % (uid, gid), os.lchown, r.p("l"), uid, gid)
        r.stat("l")


@case
def directories_without_rights(r):
    r.do("no search", os.chmod, r.p("sub"), 0o600)
    r.do("stat inside", os.stat, r.p("sub/g"))
    r.do("list", lambda: sorted(os.listdir(r.p("sub"))))
    r.do("create", lambda: os.close(os.open(r.p("sub/new"), os.O_CREAT | os.O_WRONLY)))
    r.do("no write", os.chmod, r.p("sub"), 0o500)
    r.do("unlink", os.unlink, r.p("sub/g"))
    r.do("rename out", os.rename, r.p("sub/g"), r.p("out"))
    r.do("mkdir", os.mkdir, r.p("sub/d"))
    r.do("no read", os.chmod, r.p("sub"), 0o300)
    r.do("list", lambda: sorted(os.listdir(r.p("sub"))))
    r.do("stat inside", os.stat, r.p("sub/g"))
    r.do("move a directory without write", os.chmod, r.p("empty"), 0o555)
    r.do("rename it", os.rename, r.p("empty"), r.p("sub/empty"))
    r.do("back", os.chmod, r.p("sub"), 0o755)


@case
def a_read_only_file_just_created_is_written(r):
    fd = r.open("created", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o444)
    r.do("write", os.write, fd, b"allowed: it was opened when it was made")
    again = r.open("created", os.O_RDWR)
    r.note("again", "opened" if again is not None else errno.errorcode[errno.EACCES])
    r.do("fchmod", os.fchmod, fd, 0)
    r.do("pread", os.pread, fd, 7, 0)
