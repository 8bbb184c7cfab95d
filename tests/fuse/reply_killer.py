# SPDX-License-Identifier: Apache-2.0
"""Kills the servers of a mount at a chosen instant of one request, by ptrace(2) from their keeper on, so that nothing depends on
how fast anybody is: after the request was read, or when it was done and its reply is about to be written."""
import ctypes
import json
import mmap
import os
import signal
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
PTRACE_SYSCALL, PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_GET_SYSCALL_INFO = 24, 0x4206, 0x4207, 0x420E
OPTIONS = 1 | 2 | 8  # PTRACE_O_TRACESYSGOOD, _TRACEFORK, _TRACECLONE: a server is traced from its birth
SYSCALL_STOP = signal.SIGTRAP | 0x80
ENTRY, EXIT = 1, 2
READ, WRITEV = 0, 20  # x86-64
WALL = 0x40000000
RESENT = 1 << 63  # of a request's number
TIME_LIMIT = 150  # seconds for one request, whatever the load


def log_records(log):
    """The records of a redo log (fs/upper/DELTA.md) that can be read in it, in order: number, and number of the request that
    made the change; 0 where none did. Of what a checkpoint covers some are gone."""
    with open(log, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        return sorted(scan_log(data))


def scan_log(data):
    log_id, size = struct.unpack_from("<QI", data, 32)
    found = []
    for base in range(4096, len(data) - size + 1, size):
        if data[base:base + 4] != b"RSEG" or struct.unpack_from("<Q", data, base + 8)[0] != log_id:
            continue
        number, at = struct.unpack_from("<Q", data, base + 16)[0], base + 32
        while at + 25 <= base + size:
            _, length, sequence = struct.unpack_from("<IIQ", data, at)
            if length == 0 or sequence ^ log_id != number:
                break
            found.append((number, struct.unpack_from("<Q", data, at + 17)[0] if data[at + 16] == 1 else 0))
            number, at = number + 1, at + (16 + length + 7) // 8 * 8
    return found


def requests_after(log, last):
    """The requests of the records behind number `last`, in order."""
    return [request for number, request in log_records(log) if number > last and request]


class Director:
    """In a process of its own: what it traces goes on by itself when it ends."""

    def __init__(self, keeper, log, instant, opcodes, kills):
        self.keeper = keeper
        self.log = log
        self.instant = instant
        self.opcodes = opcodes
        self.kills = kills
        self.last = log_records(log)[-1][0]
        self.calls = {}  # thread -> its system call: number, arguments
        self.unique = None
        self.killed = 0

    def trace(self, process):
        """Every thread of it; when this comes back each has stopped once, so that none of its calls goes unseen: one that
        still had to stop could come back from read(2) with the request, and only then begin to tell of its calls."""
        for thread in map(int, os.listdir("/proc/%d/task" % process)):
            for request, data in ((PTRACE_SEIZE, OPTIONS), (PTRACE_INTERRUPT, 0)):
                if LIBC.ptrace(request, thread, None, data) != 0:
                    raise OSError(ctypes.get_errno(), "ptrace")
            os.waitpid(thread, WALL)
            LIBC.ptrace(PTRACE_SYSCALL, thread, None, 0)

    @staticmethod
    def memory(thread, address, size):
        with open("/proc/%d/mem" % thread, "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, address)

    def is_the_instant(self, thread):
        info = ctypes.create_string_buffer(88)
        if LIBC.ptrace(PTRACE_GET_SYSCALL_INFO, thread, ctypes.c_void_p(88), ctypes.addressof(info)) <= 0:
            return False
        if info.raw[0] == ENTRY:
            self.calls[thread] = call = struct.unpack_from("<7Q", info.raw, 24)
            return self.instant == "done" and call[0] == WRITEV and self.is_reply(thread, call[2])
        call, result = self.calls.pop(thread, None), struct.unpack_from("<q", info.raw, 24)[0]
        return (self.instant == "taken" and info.raw[0] == EXIT and call and call[0] == READ and result >= 40
                and self.is_request(self.memory(thread, call[2], 16)))

    def is_reply(self, thread, vector):
        """The reply of the request whose change is in the log; each later server's reply to it too."""
        header = struct.unpack("<IiQ", self.memory(thread, struct.unpack("<Q", self.memory(thread, vector, 8))[0], 16))
        unique = header[2] & ~RESENT
        if self.unique is None and requests_after(self.log, self.last):
            self.unique = unique
        return unique == self.unique

    def is_request(self, header):
        _, opcode, unique = struct.unpack("<IIQ", header)
        if self.unique is None and opcode in self.opcodes:
            self.unique = unique & ~RESENT
        return unique & ~RESENT == self.unique

    def run(self, server, operation):
        signal.alarm(TIME_LIMIT)
        self.trace(self.keeper)
        self.trace(server)
        worker = os.fork()
        if worker == 0:
            signal.alarm(TIME_LIMIT)
            try:
                operation()
                os._exit(0)
            except OSError as error:
                os._exit(error.errno)
        while True:
            thread, status = os.waitpid(-1, WALL)
            if thread == worker:
                return os.waitstatus_to_exitcode(status)
            if not os.WIFSTOPPED(status):
                continue
            number = os.WSTOPSIG(status)
            if number == SYSCALL_STOP:
                number = 0
                if self.killed < self.kills and self.is_the_instant(thread):
                    self.killed += 1
                    with open("/proc/%d/status" % thread, encoding="ascii") as file:
                        process = next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
                    os.kill(process, signal.SIGKILL)
                    continue
            elif status >> 16 or number in (signal.SIGTRAP, signal.SIGSTOP):
                number = 0  # an event, or the first stop of a thread that is new
            LIBC.ptrace(PTRACE_SYSCALL, thread, None, number)


def kill_servers(keeper, server, log, operation, instant, opcodes, kills):
    """Does the operation in a process of its own, while its servers are killed: `kills` times when its change is in the
    log and the reply not yet written ("done"), or when it has read a request with one of the opcodes ("taken"). Its errno, how
    often a server was killed, and how often each request that made a change is in the log, in order."""
    last = log_records(log)[-1][0]
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            director = Director(keeper, log, instant, opcodes, kills)
            code = director.run(server, operation)
            os.write(writer, json.dumps([code, director.killed]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        told = file.read()
    os.waitpid(pid, 0)
    assert told, "the operation did not end, or nothing could be traced"
    code, killed = json.loads(told)
    made = requests_after(log, last)
    return code, killed, [made.count(request) for request in dict.fromkeys(made)]
