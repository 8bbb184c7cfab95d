// SPDX-License-Identifier: Apache-2.0
// The final stage (final_stage.h). The order of privileges, each step before the next because:
//   1. descriptors        those that are not the program's get close-on-exec while nothing can fail yet
//   2. security labels    of the next exec, which is the program's (proc(5), /proc/PID/attr/exec): not before
//                         this program's own, which would take them; before no_new_privs, and a filter that
//                         may refuse the write; what is wrong with one then fails create and not start(1)
//   3. wait for `start`   still privileged, so that nothing of the container's user exists before start(1)
//                         says so
//   4. seccomp            here without no_new_privs, since loading a filter then needs CAP_SYS_ADMIN
//                         (seccomp(2))
//   5. bounding set       needs CAP_SETPCAP, which step 7 takes (capabilities(7))
//   6. groups, gid, uid   in this order: each needs CAP_SETGID or CAP_SETUID; keepcaps saves permitted over
//                         it
//   7. capability sets    exactly those asked for; ambient ones need permitted and inheritable first
//   8. death signal       setresuid(2) cleared it (prctl(2), PR_SET_PDEATHSIG)
//   9. no_new_privs, seccomp   last, so that the filter needs to allow nothing but the execve (and, as init,
//                         its loop)
#include <asm/statfs.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>

#include "runtime/container/final_stage/final_stage.h"
#include "runtime/container/final_stage/linux_calls.h"

namespace layerfs::container::stage {

namespace {

// Numbers of the kernel's interface whose headers need a libc.
constexpr int kSigKill = 9;
constexpr int kSigChild = 17;
constexpr int kSetMask = 2;               // SIG_SETMASK
constexpr int kNoHang = 1;                // WNOHANG
constexpr int kNoSignal = 0x4000;         // MSG_NOSIGNAL
constexpr int kSolSocket = 1;             // SOL_SOCKET
constexpr int kScmRights = 1;             // SCM_RIGHTS
constexpr long kEnoent = 2;               // ENOENT
constexpr long kEintr = 4;                // EINTR
constexpr long kEagain = 11;              // EAGAIN
constexpr long kEnosys = 38;              // ENOSYS
constexpr long kEnotsup = 95;             // EOPNOTSUPP
constexpr unsigned kControlTty = 0x540e;  // TIOCSCTTY
constexpr int kProtReadWrite = 3;
constexpr int kMapPrivate = 2;
constexpr int kMapAnonymous = 0x20;
constexpr short kPollHangup = 0x10;
constexpr unsigned kCloseOnExecRange = 4;  // CLOSE_RANGE_CLOEXEC
constexpr std::uint32_t kReady = 5;        // MessageKind
constexpr std::uint32_t kStageFailed = 10;
constexpr std::uint32_t kExecFailed = 7;
constexpr int kExitNotStarted = 125;

struct Filter {
  std::uint16_t count;
  const void* instructions;
};

class Stage {
 public:
  explicit Stage(char* base) : base_(base), header_(*reinterpret_cast<StageHeader*>(base)) {}

  [[noreturn]] void run(long stage_fd) {
    call(__NR_close, stage_fd);
    if (call(__NR_close_range, header_.keep_fds, ~0U, kCloseOnExecRange) < 0) {
      call(__NR_fcntl, header_.sync_fd, F_SETFD, FD_CLOEXEC);
      if (header_.start_fd >= 0) call(__NR_fcntl, header_.start_fd, F_SETFD, FD_CLOEXEC);
      if (header_.listener_socket >= 0) call(__NR_fcntl, header_.listener_socket, F_SETFD, FD_CLOEXEC);
    }
    call(__NR_prctl, PR_SET_NAME, "layerfs-init", 0, 0, 0);  // else the name of the memfd
    set_labels();
    if (has(kReportReady)) send(kReady, 0);
    wait_for_start();
    drop_privileges();
    if (has(kStayAsInit)) be_init();
    become_program();
  }

 private:
  bool has(Flag flag) const { return (header_.flags & flag) != 0; }
  template <class T>
  T* at(std::uint32_t offset) const {
    return reinterpret_cast<T*>(base_ + offset);
  }

  void send(std::uint32_t kind, long error) const {
    StageMessage message{kind, static_cast<std::int32_t>(error)};
    call(__NR_sendto, header_.sync_fd, &message, sizeof message, kNoSignal, nullptr, 0);
  }
  [[noreturn]] static void exit(int status) {
    call(__NR_exit_group, status);
    __builtin_trap();  // where a filter refuses even that: the signal of an illegal instruction ends it
  }
  /// The text goes behind the message's header: "drop privileges: setresuid".
  template <unsigned size>
  void require(long result, const char (&what)[size]) const {
    if (result >= 0) return;
    struct {
      StageMessage message;
      char text[size];
    } failed;
    failed.message = {kStageFailed, static_cast<std::int32_t>(-result)};
    for (unsigned i = 0; i < size; ++i) failed.text[i] = what[i];
    call(__NR_sendto, header_.sync_fd, &failed, sizeof failed.message + size - 1, kNoSignal, nullptr, 0);
    exit(kExitNotStarted);
  }

  /// A file of this thread's own, in the runtime's procfs: whatever the container has mounted on its /proc,
  /// or in place of it, is not asked (CVE-2019-16884), and no mount or link below leads elsewhere
  /// (CVE-2025-52881).
  long open_attribute(const char* path) const {
    open_how how{O_WRONLY | O_CLOEXEC, 0, RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS};
    long fd = call(__NR_openat2, header_.proc_fd, path, &how, sizeof how);
    if (fd == -kEnosys) fd = call(__NR_openat, header_.proc_fd, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return fd;
    struct statfs facts{};
    long known = call(__NR_fstatfs, fd, &facts);
    if (known < 0) return known;
    return facts.f_type == PROC_SUPER_MAGIC ? fd : -kEnotsup;
  }

  long write_attribute(const char* path, const char* text) const {
    long fd = open_attribute(path);
    if (fd < 0) return fd;
    unsigned long size = 0;
    while (text[size] != '\0') ++size;
    long written = call(__NR_write, fd, text, size);
    call(__NR_close, fd);
    return written;
  }

  void set_labels() const {
    if (header_.apparmor != 0) {
      const char* change = at<char>(header_.apparmor);
      long set = write_attribute("thread-self/attr/apparmor/exec", change);
      if (set == -kEnoent) set = write_attribute("thread-self/attr/exec", change);  // before Linux 5.8
      require(set, "field 'process.apparmorProfile'");
    }
    if (header_.selinux != 0)
      require(write_attribute("thread-self/attr/exec", at<char>(header_.selinux)),
              "field 'process.selinuxLabel'");
    if (header_.proc_fd >= 0) call(__NR_close, header_.proc_fd);
  }

  void wait_for_start() const {
    if (header_.start_fd < 0) return;
    char byte;
    long got;
    do {
      got = call(__NR_read, header_.start_fd, &byte, 1);
    } while (got == -kEintr);
    if (got != 1) exit(kExitNotStarted);
    call(__NR_close, header_.start_fd);
  }

  void load_filter() const {
    if (header_.seccomp_count == 0) return;
    Filter filter{static_cast<std::uint16_t>(header_.seccomp_count), at<void>(header_.seccomp)};
    long loaded = call(__NR_seccomp, SECCOMP_SET_MODE_FILTER, header_.seccomp_flags, &filter);
    require(loaded, "load seccomp filter");
    if (header_.listener_socket >= 0) send_listener(static_cast<int>(loaded));
  }

  /// From here: the sender is whom the filter may stop, and a listener that waits for its descriptor must not
  /// be asked about it. Hence no SCMP_ACT_NOTIFY for sendmsg (parse_linux.cc).
  void send_listener(int listener) const {
    struct {
      void* data;
      unsigned long size;
    } part{at<void>(header_.listener_state), header_.listener_state_size};
    // cmsghdr and its data, with the padding of 64-bit machines (cmsg(3)).
    struct {
      unsigned long size;
      int level;
      int type;
      int fd;
      int padding;
    } rights{sizeof(long) + 2 * sizeof(int) + sizeof(int), kSolSocket, kScmRights, listener, 0};
    struct {
      void* name;
      unsigned long name_size;
      void* parts;
      unsigned long part_count;
      void* control;
      unsigned long control_size;
      unsigned long flags;
    } message{nullptr, 0, &part, 1, &rights, sizeof rights, 0};
    require(call(__NR_sendmsg, header_.listener_socket, &message, kNoSignal), "send seccomp listener");
    // Both are close-on-exec: a filter that refuses close(2) does no harm.
    call(__NR_close, listener);
    call(__NR_close, header_.listener_socket);
  }

  void set_capabilities() const {
    __user_cap_header_struct version{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct sets[2] = {
        {static_cast<std::uint32_t>(header_.effective), static_cast<std::uint32_t>(header_.permitted),
         static_cast<std::uint32_t>(header_.inheritable)},
        {static_cast<std::uint32_t>(header_.effective >> 32),
         static_cast<std::uint32_t>(header_.permitted >> 32),
         static_cast<std::uint32_t>(header_.inheritable >> 32)}};
    require(call(__NR_capset, &version, &sets), "set capabilities");
    call(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (std::uint32_t number = 0; number <= header_.last_capability; ++number)
      if ((header_.ambient >> number & 1) != 0)
        require(call(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0),
                "raise ambient capability");
  }

  void drop_privileges() const {
    if (!has(kNoNewPrivileges)) load_filter();
    call(__NR_umask, header_.umask);
    if (has(kSetCapabilities)) {
      for (std::uint32_t number = 0; number <= header_.last_capability; ++number)
        if ((header_.bounding >> number & 1) == 0)
          require(call(__NR_prctl, PR_CAPBSET_DROP, number, 0, 0, 0), "drop bounding capability");
      require(call(__NR_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities");
    }
    if (has(kSetGroups))
      require(call(__NR_setgroups, header_.group_count, at<void>(header_.groups)), "set groups");
    require(call(__NR_setresgid, header_.gid, header_.gid, header_.gid), "set group id");
    require(call(__NR_setresuid, header_.uid, header_.uid, header_.uid), "set user id");
    if (has(kSetCapabilities)) {
      require(call(__NR_prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0), "keep capabilities");
      set_capabilities();
    }
    if (has(kDieWithParent)) die_with_parent();
    if (has(kChangeDirectory)) enter_directory();
    if (has(kNoNewPrivileges)) {
      require(call(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs");
      load_filter();
    }
  }

  void die_with_parent() const {
    require(call(__NR_prctl, PR_SET_PDEATHSIG, kSigKill, 0, 0, 0), "set parent death signal");
    // It may have died before: then its end of the channel is closed.
    struct {
      int fd;
      short events;
      short revents;
    } poll{header_.sync_fd, 0, 0};
    long now[2] = {0, 0};
    if (call(__NR_ppoll, &poll, 1, &now, nullptr, 0) == 1 && (poll.revents & kPollHangup) != 0)
      exit(kExitNotStarted);
  }

  void enter_directory() const {
    require(call(__NR_chdir, at<char>(header_.cwd)), "change to the working directory");
    // A directory outside the root is "(unreachable)...": never run a program there (CVE-2024-21626).
    char path[4096];
    long size = call(__NR_getcwd, path, sizeof path);
    require(size > 0 && path[0] != '/' ? -kEnoent : size, "change to the working directory");
  }

  static void set_signal_mask(std::uint64_t mask) {
    call(__NR_rt_sigprocmask, kSetMask, &mask, nullptr, sizeof mask);
  }

  /// Pointers of an array of offsets, with the null at the end.
  const char** pointers(std::uint32_t offsets, std::uint32_t count, const char** to) const {
    for (std::uint32_t i = 0; i < count; ++i) to[i] = at<char>(at<std::uint32_t>(offsets)[i]);
    to[count] = nullptr;
    return to + count + 1;
  }

  [[noreturn]] void become_program() const {
    unsigned long bytes = (header_.argument_count + header_.environment_count + 2UL) * sizeof(char*);
    long memory = call(__NR_mmap, nullptr, bytes, kProtReadWrite, kMapPrivate | kMapAnonymous, -1, 0);
    require(memory < 0 && memory > -4096 ? memory : 0, "allocate arguments");
    auto** arguments = reinterpret_cast<const char**>(memory);
    auto** environment = pointers(header_.arguments, header_.argument_count, arguments);
    pointers(header_.environment, header_.environment_count, environment);
    set_signal_mask(0);
    long result = call(__NR_execve, at<char>(header_.path), arguments, environment);
    send(kExecFailed, -result);
    exit(result == -kEnoent ? 127 : 126);
  }

  [[noreturn]] void be_init() const {
    // All signals are blocked, so that they wait for rt_sigtimedwait: one that is ignored by default would
    // not reach the first process of a pid namespace at all (pid_namespaces(7)).
    set_signal_mask(~std::uint64_t{0});
    long child = call(__NR_clone, kSigChild, 0, 0, 0, 0);
    require(child, "make the container's process");
    if (child == 0) {
      call(__NR_setsid);
      if (has(kTerminal)) call(__NR_ioctl, 0, kControlTty, 0);
      become_program();
    }
    // The program's output ends when the program closes it, and the sync channel when the program runs.
    if (call(__NR_close_range, 0, ~0U, 0) < 0)
      for (int fd = 0; fd < 64; ++fd) call(__NR_close, fd);
    // Nothing is left to be hidden from the container's own tools.
    call(__NR_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
    if (header_.uid != 0 && has(kSetCapabilities)) {
      __user_cap_header_struct version{_LINUX_CAPABILITY_VERSION_3, 0};
      __user_cap_data_struct none[2] = {};
      call(__NR_capset, &version, &none);
    }
    for (;;) {
      std::uint64_t every = ~std::uint64_t{0};
      long signal = call(__NR_rt_sigtimedwait, &every, nullptr, nullptr, sizeof every);
      if (signal == kSigChild)
        reap(child, kNoHang);
      else if (signal > 0)
        call(__NR_kill, child, signal);
      else if (signal != -kEintr && signal != -kEagain)
        // Refused by the container's filter: then signals are not passed on, and it waits for children.
        for (;;) reap(child, 0);
    }
  }

  static void reap(long child, int options) {
    for (;;) {
      int status = 0;
      long pid = call(__NR_wait4, -1, &status, options, nullptr);
      if (pid == -kEintr) continue;
      if (pid < 0) exit(kExitNotStarted);  // refused too: the child cannot be gone without having been seen
      if (pid == 0) return;
      if (pid != child) continue;
      int signal = status & 0x7f;
      exit(signal == 0 ? status >> 8 & 0xff : 128 + signal);
    }
  }

  char* base_;
  const StageHeader& header_;
};

long parse_number(const char* text) {
  long value = 0;
  for (; *text >= '0' && *text <= '9'; ++text) value = value * 10 + (*text - '0');
  return value;
}

}  // namespace

/// `stack` is what the kernel left: the argument count and the argument pointers (execve(2)).
extern "C" [[noreturn]] void layerfs_final_stage(const long* stack) {
  // The execve(2) has made it dumpable again: what runs in the container, as the same user and with the same
  // capabilities, could take its descriptors (CVE-2016-9962).
  call(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
  const auto* arguments = reinterpret_cast<const char* const*>(stack + 1);
  long fd = stack[0] < 2 ? -1 : parse_number(arguments[1]);
  StageHeader header;
  long got = call(__NR_pread64, fd, &header, sizeof header, 0);
  if (got == static_cast<long>(sizeof header) && header.magic == kMagic) {
    long base = call(__NR_mmap, nullptr, header.size, kProtReadWrite, kMapPrivate, fd, 0);
    if (base > 0 || base < -4095) Stage(reinterpret_cast<char*>(base)).run(fd);
  }
  call(__NR_exit_group, kExitNotStarted);
  __builtin_trap();
}

}  // namespace layerfs::container::stage

// What the compiler may call for copies.
extern "C" void* memcpy(void* to, const void* from, unsigned long size) {
  auto* target = static_cast<char*>(to);
  const auto* source = static_cast<const char*>(from);
  for (unsigned long i = 0; i < size; ++i) target[i] = source[i];
  return to;
}
extern "C" void* memset(void* to, int value, unsigned long size) {
  auto* target = static_cast<char*>(to);
  for (unsigned long i = 0; i < size; ++i) target[i] = static_cast<char>(value);
  return to;
}

#if defined(__x86_64__)
asm(".global _start\n_start:\n  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call "
    "layerfs_final_stage\n");
#elif defined(__aarch64__)
asm(".global _start\n_start:\n  mov x0, sp\n  and sp, x0, #-16\n  bl layerfs_final_stage\n");
#elif defined(__riscv)
asm(".global _start\n_start:\n  mv a0, sp\n  andi sp, sp, -16\n  call layerfs_final_stage\n");
#endif
