# SPDX-License-Identifier: Apache-2.0
"""What callers leave to a program beside its arguments: closed streams, ignored signals, a umask, a terminal."""
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios

CLOSED = ((0,), (1,), (2,), (0, 1), (0, 1, 2))


def run_changed(stage, change, *args, program=None, timeout=60):
    """The command's exit status, output and messages; `change` is called right before its exec."""
    def prepare():
        stage.become()
        change()
    process = subprocess.Popen([program or stage.layerfs, *args], env=stage.environment(), cwd=stage.home, preexec_fn=prepare,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, restore_signals=False)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError("timed out: %s %s" % (args, process.communicate()))
    return process.returncode, out.decode(), err.decode()


def closing(streams):
    return lambda: [os.close(fd) for fd in streams]


def ignoring_children():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def masked():
    os.umask(0o077)


def in_terminal(stage, rows, columns, *args, program=None):
    """What the command writes to a terminal of that size."""
    pid, master = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.chdir(stage.home)
        stage.become()
        os.execve(program or stage.layerfs, ["program", *args], stage.environment())
    text = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        text += part
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text.decode(errors="replace").strip()
