// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/seccomp_default.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <span>
#include <string_view>

namespace layerfs::plan {

namespace {

using Names = std::span<const std::string_view>;
using spec::SeccompAction;
using spec::SeccompArg;
using spec::SeccompCompare;
using spec::SeccompRule;

constexpr std::string_view kAllowed[] = {
    "_llseek",
    "_newselect",
    "accept",
    "accept4",
    "access",
    "adjtimex",
    "alarm",
    "bind",
    "brk",
    "cachestat",
    "capget",
    "capset",
    "chdir",
    "chmod",
    "chown",
    "chown32",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "clock_nanosleep",
    "clock_nanosleep_time64",
    "clone",
    "clone3",
    "close",
    "close_range",
    "connect",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_ctl_old",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "epoll_wait_old",
    "eventfd",
    "eventfd2",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fadvise64_64",
    "fallocate",
    "fanotify_mark",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchown32",
    "fchownat",
    "fcntl",
    "fcntl64",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fork",
    "fremovexattr",
    "fsconfig",
    "fsetxattr",
    "fsmount",
    "fsopen",
    "fspick",
    "fstat",
    "fstat64",
    "fstatat64",
    "fstatfs",
    "fstatfs64",
    "fsync",
    "ftruncate",
    "ftruncate64",
    "futex",
    "futex_requeue",
    "futex_time64",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "futimesat",
    "get_mempolicy",
    "get_robust_list",
    "get_thread_area",
    "getcpu",
    "getcwd",
    "getdents",
    "getdents64",
    "getegid",
    "getegid32",
    "geteuid",
    "geteuid32",
    "getgid",
    "getgid32",
    "getgroups",
    "getgroups32",
    "getitimer",
    "getpeername",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getrandom",
    "getresgid",
    "getresgid32",
    "getresuid",
    "getresuid32",
    "getrlimit",
    "getrusage",
    "getsid",
    "getsockname",
    "getsockopt",
    "gettid",
    "gettimeofday",
    "getuid",
    "getuid32",
    "getxattr",
    "getxattrat",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_setup",
    "io_submit",
    "ioctl",
    "ioprio_get",
    "ioprio_set",
    "ipc",
    "keyctl",
    "kill",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "lchown",
    "lchown32",
    "lgetxattr",
    "link",
    "linkat",
    "listen",
    "listmount",
    "listxattr",
    "listxattrat",
    "llistxattr",
    "lremovexattr",
    "lseek",
    "lsetxattr",
    "lstat",
    "lstat64",
    "madvise",
    "map_shadow_stack",
    "mbind",
    "membarrier",
    "memfd_create",
    "memfd_secret",
    "mincore",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mmap2",
    "mount",
    "mount_setattr",
    "move_mount",
    "mprotect",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedreceive_time64",
    "mq_timedsend",
    "mq_timedsend_time64",
    "mq_unlink",
    "mremap",
    "mseal",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "name_to_handle_at",
    "nanosleep",
    "newfstatat",
    "open",
    "open_tree",
    "openat",
    "openat2",
    "pause",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "pipe",
    "pipe2",
    "pivot_root",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "poll",
    "ppoll",
    "ppoll_time64",
    "prctl",
    "pread64",
    "preadv",
    "preadv2",
    "prlimit64",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "pselect6",
    "pselect6_time64",
    "ptrace",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readdir",
    "readlink",
    "readlinkat",
    "readv",
    "reboot",
    "recv",
    "recvfrom",
    "recvmmsg",
    "recvmmsg_time64",
    "recvmsg",
    "remap_file_pages",
    "removexattr",
    "removexattrat",
    "rename",
    "renameat",
    "renameat2",
    "restart_syscall",
    "riscv_hwprobe",
    "rmdir",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_rr_get_interval_time64",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "seccomp",
    "select",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "semtimedop_time64",
    "send",
    "sendfile",
    "sendfile64",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setitimer",
    "setpgid",
    "setpriority",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setrlimit",
    "setsid",
    "setsockopt",
    "setuid",
    "setuid32",
    "setxattr",
    "setxattrat",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "shutdown",
    "sigaction",
    "sigaltstack",
    "signal",
    "signalfd",
    "signalfd4",
    "sigpending",
    "sigprocmask",
    "sigreturn",
    "sigsuspend",
    "socketcall",
    "socketpair",
    "splice",
    "stat",
    "stat64",
    "statfs",
    "statfs64",
    "statmount",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "syscall",
    "sysinfo",
    "syslog",
    "tee",
    "tgkill",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_gettime64",
    "timer_settime",
    "timer_settime64",
    "timerfd",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_gettime64",
    "timerfd_settime",
    "timerfd_settime64",
    "times",
    "tkill",
    "truncate",
    "truncate64",
    "ugetrlimit",
    "umask",
    "umount",
    "umount2",
    "uname",
    "unlink",
    "unlinkat",
    "unshare",
    "uretprobe",
    "utime",
    "utimensat",
    "utimensat_time64",
    "utimes",
    "vfork",
    "wait4",
    "waitid",
    "waitpid",
    "write",
    "writev",
};

// Old, dangerous or superseded: a plain refusal, as programs expect of them.
constexpr std::string_view kRefused[] = {
    "bdflush",         "io_pgetevents",
    "kexec_file_load", "kexec_load",
    "migrate_pages",   "move_pages",
    "nfsservctl",      "nice",
    "oldfstat",        "oldlstat",
    "oldolduname",     "oldstat",
    "olduname",        "pciconfig_iobase",
    "pciconfig_read",  "pciconfig_write",
    "sgetmask",        "ssetmask",
    "swapcontext",     "swapoff",
    "swapon",          "sysfs",
    "uselib",          "userfaultfd",
    "ustat",           "vm86",
    "vm86old",         "vmsplice",
};

#if defined(__x86_64__)
constexpr std::string_view kMachine[] = {"arch_prctl", "modify_ldt"};
constexpr const char* kDefaultArchitectures[] = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
#elif defined(__aarch64__)
constexpr std::string_view kMachine[] = {
    "arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"};
constexpr const char* kDefaultArchitectures[] = {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"};
#elif defined(__powerpc64__)
constexpr std::string_view kMachine[] = {"sync_file_range2"};
constexpr std::span<const char* const> kDefaultArchitectures;
#else
constexpr Names kMachine;
constexpr std::span<const char* const> kDefaultArchitectures;
#endif

constexpr std::string_view kOpenByHandle[] = {"open_by_handle_at"};
constexpr std::string_view kAdmin[] = {"bpf",      "fanotify_init", "lookup_dcookie", "perf_event_open",
                                       "quotactl", "quotactl_fd",   "setdomainname",  "sethostname",
                                       "setns"};
/// Of kAllowed: what makes namespaces and mounts, and the kernel's log.
constexpr std::string_view kNamespaces[] = {"clone",  "clone3", "fsconfig",      "fsmount",    "fsopen",
                                            "fspick", "mount",  "mount_setattr", "move_mount", "open_tree",
                                            "syslog", "umount", "umount2",       "unshare"};
constexpr std::string_view kClone[] = {"clone"};
constexpr std::string_view kClone3[] = {"clone3"};
constexpr std::string_view kKernelLog[] = {"syslog"};
constexpr std::string_view kChroot[] = {"chroot"};
constexpr std::string_view kModule[] = {"delete_module", "finit_module", "init_module", "query_module"};
constexpr std::string_view kAccounting[] = {"acct"};
constexpr std::string_view kTrace[] = {"kcmp", "process_madvise"};
constexpr std::string_view kRawIo[] = {"ioperm", "iopl"};
constexpr std::string_view kClock[] = {"clock_settime", "clock_settime64", "settimeofday", "stime"};
constexpr std::string_view kTty[] = {"vhangup"};
constexpr std::string_view kPersonality[] = {"personality"};
constexpr std::string_view kSocket[] = {"socket"};

struct Guarded {
  const char* capability;
  Names names;
};
constexpr Guarded kGuarded[] = {
    {"CAP_DAC_READ_SEARCH", kOpenByHandle},
    {"CAP_SYS_ADMIN", kAdmin},
    {"CAP_SYS_CHROOT", kChroot},
    {"CAP_SYS_MODULE", kModule},
    {"CAP_SYS_PACCT", kAccounting},
    {"CAP_SYS_PTRACE", kTrace},
    {"CAP_SYS_RAWIO", kRawIo},
    {"CAP_SYS_TIME", kClock},
    {"CAP_SYS_TTY_CONFIG", kTty},
};

// PER_LINUX, PER_LINUX32, UNAME26, both, and "only ask" (personality(2)).
constexpr std::uint64_t kPersonalities[] = {0x0, 0x8, 0x20000, 0x20008, 0xffffffff};

constexpr std::uint64_t kNetlinkFamily = 16;  // AF_NETLINK
constexpr std::uint64_t kAuditProtocol = 9;   // NETLINK_AUDIT

SeccompRule make_rule(Names names, SeccompAction action, std::optional<std::uint32_t> errno_value = {},
                      std::vector<SeccompArg> args = {}) {
  return {{names.begin(), names.end()}, action, errno_value, std::move(args)};
}

void add_audit_rules(std::vector<SeccompRule>& rules) {
  // Without CAP_AUDIT_WRITE an audit socket is EINVAL, as if the kernel had no auditing: PAM then goes on.
  SeccompArg family{0, kNetlinkFamily, 0, SeccompCompare::kEqual};
  SeccompArg protocol{2, kAuditProtocol, 0, SeccompCompare::kEqual};
  rules.push_back(make_rule(kSocket, SeccompAction::kErrno, EINVAL, {family, protocol}));
  family.compare = SeccompCompare::kNotEqual;
  protocol.compare = SeccompCompare::kNotEqual;
  rules.push_back(make_rule(kSocket, SeccompAction::kAllow, {}, {protocol}));
  rules.push_back(make_rule(kSocket, SeccompAction::kAllow, {}, {family}));
}

/// clone(2) without new namespaces stays. clone3(2), whose flags a filter cannot see, is absent: libraries
/// fall back to the former.
void add_namespace_rules(bool has_syslog, std::vector<SeccompRule>& rules) {
  std::vector<std::string_view> allowed;
  std::ranges::copy_if(kAllowed, std::back_inserter(allowed), [](std::string_view name) {
    return std::ranges::find(kNamespaces, name) == std::end(kNamespaces);
  });
  rules.push_back(make_rule(allowed, SeccompAction::kAllow));
  if (has_syslog) rules.push_back(make_rule(kKernelLog, SeccompAction::kAllow));
#if defined(__s390x__)
  constexpr unsigned kFlagsAt = 1;  // the stack comes first (clone(2))
#else
  constexpr unsigned kFlagsAt = 0;
#endif
  std::uint64_t any = 0;
  for (std::uint64_t flag : {CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID,
                             CLONE_NEWNET, CLONE_NEWCGROUP}) {
    rules.push_back(make_rule(kClone, SeccompAction::kErrno, EPERM,
                              {{kFlagsAt, flag, flag, SeccompCompare::kMaskedEqual}}));
    any |= flag;
  }
  rules.push_back(
      make_rule(kClone, SeccompAction::kAllow, {}, {{kFlagsAt, any, 0, SeccompCompare::kMaskedEqual}}));
  rules.push_back(make_rule(kClone3, SeccompAction::kErrno, ENOSYS));
  // A rule without arguments would decide alone: those two have theirs.
  std::vector<std::string_view> refused;
  std::ranges::copy_if(kNamespaces, std::back_inserter(refused),
                       [](std::string_view name) { return !name.starts_with("clone"); });
  rules.push_back(make_rule(refused, SeccompAction::kErrno, EPERM));
}

}  // namespace

spec::Seccomp default_seccomp(const std::vector<std::string>& capabilities, ContainerUsers users) {
  auto has = [&](std::string_view name) {
    return std::ranges::find(capabilities, name) != capabilities.end();
  };
  spec::Seccomp profile;
  profile.default_action = SeccompAction::kErrno;
  profile.default_errno = ENOSYS;
  profile.architectures.assign(std::begin(kDefaultArchitectures), std::end(kDefaultArchitectures));
  auto& rules = profile.rules;
  if (users == ContainerUsers::kOwn || has("CAP_SYS_ADMIN"))
    rules.push_back(make_rule(kAllowed, SeccompAction::kAllow));
  else
    add_namespace_rules(has("CAP_SYSLOG"), rules);
  rules.push_back(make_rule(kMachine, SeccompAction::kAllow));
  rules.push_back(make_rule(kRefused, SeccompAction::kErrno, EPERM));
  for (std::uint64_t value : kPersonalities)
    rules.push_back(
        make_rule(kPersonality, SeccompAction::kAllow, {}, {{0, value, 0, SeccompCompare::kEqual}}));
  for (const auto& guarded : kGuarded) {
    if (has(guarded.capability))
      rules.push_back(make_rule(guarded.names, SeccompAction::kAllow));
    else
      rules.push_back(make_rule(guarded.names, SeccompAction::kErrno, EPERM));
  }
  if (has("CAP_AUDIT_WRITE"))
    rules.push_back(make_rule(kSocket, SeccompAction::kAllow));
  else
    add_audit_rules(rules);
  return profile;
}

}  // namespace layerfs::plan
