// SPDX-License-Identifier: Apache-2.0
// ContainerSpec: what an OCI config.json says (runtime-spec 1.0 to 1.3, Linux), as values. parse_spec.h makes
// it from JSON, run_spec.h (plan) from an image and the options of `layerfs run`; both go the same way from
// here.
//
// (1) No value here has been checked against the host: that is the plan's and the kernel's part.
// (2) Names follow the specification's own: `linux.resources.pids.limit` is spec.resources.pids_limit.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::spec {

enum class NamespaceKind : std::uint8_t { kUser, kMount, kPid, kNetwork, kIpc, kUts, kCgroup, kTime };

/// "user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time".
std::string_view to_text(NamespaceKind kind);
std::optional<NamespaceKind> find_namespace_kind(std::string_view text);
/// CLONE_NEWUSER and its siblings (namespaces(7)).
std::uint64_t clone_flag(NamespaceKind kind);
/// The name below /proc/PID/ns.
std::string_view proc_name(NamespaceKind kind);

/// A namespace to make, or with a path to join.
struct Namespace {
  NamespaceKind kind = NamespaceKind::kMount;
  std::string path;
  bool operator==(const Namespace&) const = default;
};

struct IdMapping {
  std::uint32_t container_id = 0;
  std::uint32_t host_id = 0;
  std::uint32_t size = 0;
  bool operator==(const IdMapping&) const = default;
};

struct Root {
  std::string path = "rootfs";
  bool read_only = false;
};

struct Mount {
  std::string destination;
  std::string type;
  std::string source;
  std::vector<std::string> options;
  std::vector<IdMapping> uid_mappings;  ///< from the ids of the source to those of the mount
  std::vector<IdMapping> gid_mappings;
  /// Not of the specification: the source of a bind mount becomes the user's whom the process runs as.
  bool owned_by_user = false;
};

/// An interface of the host that becomes the container's.
struct NetDevice {
  std::string host_name;
  std::string name;  ///< in the container: "eth0", or "eth%d" for the first that is free
  bool operator==(const NetDevice&) const = default;
};

struct Device {
  std::string path;
  char type = 'c';  ///< c, u, b or p
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::optional<std::uint32_t> file_mode;
  std::optional<std::uint32_t> uid;
  std::optional<std::uint32_t> gid;
};

struct ConsoleSize {
  std::uint16_t height = 0;
  std::uint16_t width = 0;
};

struct User {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> additional_gids;
  std::optional<std::uint32_t> umask;
  /// Not of the specification: "name[:group]" to be looked up in the container's own passwd and group, in
  /// place of the numbers above (the image's User, or `run --user`).
  std::string lookup;
};

struct Capabilities {
  std::vector<std::string> bounding;
  std::vector<std::string> effective;
  std::vector<std::string> permitted;
  std::vector<std::string> inheritable;
  std::vector<std::string> ambient;
};

struct Rlimit {
  std::string type;  ///< RLIMIT_NOFILE...
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;
};

/// sched_setattr(2), whose names these are.
struct Scheduler {
  std::uint32_t policy = 0;  ///< SCHED_OTHER...
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t flags = 0;  ///< SCHED_FLAG_*
  std::uint64_t runtime = 0;
  std::uint64_t deadline = 0;
  std::uint64_t period = 0;
};

/// ioprio_set(2).
struct IoPriority {
  int io_class = 2;  ///< IOPRIO_CLASS_*
  int priority = 0;
};

/// set_mempolicy(2).
struct MemoryPolicy {
  int mode = 0;       ///< MPOL_*, with its MPOL_F_* flags
  std::string nodes;  ///< "0-1,3"
};

/// /proc/PID/timens_offsets (time_namespaces(7)).
struct TimeOffset {
  std::string clock;  ///< "monotonic" or "boottime"
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
};

struct Process {
  bool terminal = false;
  ConsoleSize console_size;
  User user;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd = "/";
  std::optional<Capabilities> capabilities;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::optional<int> oom_score_adj;
  std::string apparmor_profile;
  std::string selinux_label;
  std::optional<Scheduler> scheduler;
  std::optional<IoPriority> io_priority;
  std::string initial_cpus;  ///< execCPUAffinity: "0-3,7", before the process is in its cgroup
  std::string final_cpus;    ///< ... and once it is
};

struct Hook {
  std::string path;
  std::vector<std::string> args;
  std::optional<std::vector<std::string>> env;  ///< nullopt: the runtime's own (execv(3), environ(7))
  std::optional<int> timeout;                   ///< seconds
};

struct Hooks {
  std::vector<Hook> prestart;
  std::vector<Hook> create_runtime;
  std::vector<Hook> create_container;
  std::vector<Hook> start_container;
  std::vector<Hook> poststart;
  std::vector<Hook> poststop;
  std::string
      stdout_path;  ///< where what they write goes (run.oci.hooks.stdout); empty: to our standard error
  std::string stderr_path;
};

struct DeviceRule {
  bool allow = false;
  char type = 'a';  ///< a, b or c
  std::optional<std::int64_t> major;
  std::optional<std::int64_t> minor;
  std::string access;  ///< of "rwm"; empty: all
};

struct HugepageLimit {
  std::string page_size;  ///< "2MB"
  std::uint64_t limit = 0;
};

struct BlockThrottle {
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::uint64_t rate = 0;
};

struct BlockWeight {
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::optional<std::uint16_t> weight;
  std::optional<std::uint16_t> leaf_weight;
};

struct RdmaLimit {
  std::optional<std::uint32_t> handles;
  std::optional<std::uint32_t> objects;
};

struct BlockIo {
  std::optional<std::uint16_t> weight;
  std::optional<std::uint16_t> leaf_weight;
  std::vector<BlockWeight> device_weights;
  std::vector<BlockThrottle> read_bps;
  std::vector<BlockThrottle> write_bps;
  std::vector<BlockThrottle> read_iops;
  std::vector<BlockThrottle> write_iops;
};

/// Limits; -1 where the specification uses it for "unlimited".
struct Resources {
  std::vector<DeviceRule> devices;
  std::optional<std::int64_t> memory_limit;
  std::optional<std::int64_t> memory_reservation;
  std::optional<std::int64_t> memory_swap;  ///< memory plus swap, as cgroup v1 counts
  std::optional<std::int64_t> memory_kernel;
  std::optional<std::int64_t> memory_kernel_tcp;
  std::optional<std::uint64_t> memory_swappiness;
  /// An update to a memory limit below what is used is refused.
  bool check_before_update = false;
  std::optional<bool> disable_oom_killer;
  std::optional<std::uint64_t> cpu_shares;
  std::optional<std::int64_t> cpu_quota;
  std::optional<std::uint64_t> cpu_period;
  std::optional<std::uint64_t> cpu_burst;
  std::optional<std::int64_t> cpu_realtime_runtime;
  std::optional<std::uint64_t> cpu_realtime_period;
  std::optional<std::int64_t> cpu_idle;
  std::string cpuset_cpus;
  std::string cpuset_mems;
  std::optional<std::int64_t> pids_limit;
  BlockIo block_io;
  std::vector<HugepageLimit> hugepages;
  std::map<std::string, RdmaLimit> rdma;  ///< by device
  std::optional<std::uint32_t> network_class;
  std::map<std::string, std::uint32_t> network_priorities;  ///< by interface
  std::map<std::string, std::string> unified;

  /// Some limit other than the device rules is set.
  bool has_limits() const;
  /// A limit of 0 becomes one that is not set, which is what callers in Go mean by it: a field that they do
  /// not set is written as 0. What has a meaning at 0 stays: swappiness, burst, idle, limits of huge pages,
  /// of RDMA, of a device, and `unified`.
  void drop_zeros();
};

enum class SeccompAction : std::uint8_t {
  kAllow,
  kErrno,
  kKillThread,
  kKillProcess,
  kTrap,
  kTrace,
  kLog,
  kNotify
};
enum class SeccompCompare : std::uint8_t {
  kNotEqual,
  kLess,
  kLessEqual,
  kEqual,
  kGreaterEqual,
  kGreater,
  kMaskedEqual
};

struct SeccompArg {
  unsigned index = 0;
  std::uint64_t value = 0;
  std::uint64_t value_two = 0;
  SeccompCompare compare = SeccompCompare::kEqual;
};

struct SeccompRule {
  std::vector<std::string> names;
  SeccompAction action = SeccompAction::kAllow;
  std::optional<std::uint32_t> errno_value;
  std::vector<SeccompArg> args;
};

struct Seccomp {
  SeccompAction default_action = SeccompAction::kErrno;
  std::optional<std::uint32_t> default_errno;
  std::vector<std::string> architectures;  ///< SCMP_ARCH_X86_64...; none: this machine's
  std::vector<std::string> flags;          ///< SECCOMP_FILTER_FLAG_LOG...
  std::vector<SeccompRule> rules;
  std::string listener_path;  ///< a unix socket that gets the descriptor of SCMP_ACT_NOTIFY
  std::string listener_metadata;
  bool known_calls_only = false;  ///< run.oci.seccomp_fail_unknown_syscall: an unknown call is an error

  /// Some rule has SCMP_ACT_NOTIFY.
  bool notifies() const;
};

enum class Propagation : std::uint8_t {
  kUnset,
  kPrivate,
  kSlave,
  kShared,
  kUnbindable,
  kRecursivePrivate,
  kRecursiveSlave,
  kRecursiveShared,
  kRecursiveUnbindable
};
std::optional<Propagation> find_propagation(std::string_view text);
/// MS_PRIVATE | MS_REC...; 0 for kUnset (mount(2)).
unsigned long mount_flags(Propagation propagation);

/// A class of service of the host's caches and memory bandwidth (resctrl), and of their monitoring.
struct IntelRdt {
  std::string clos_id;  ///< empty: one of the container's own; "/": the default
  std::string l3_cache_schema;
  std::string memory_bandwidth_schema;
  std::vector<std::string> schemata;  ///< lines
  bool enable_monitoring = false;
};

struct ContainerSpec {
  std::string oci_version = "1.0.2";
  Root root;
  Process process;
  std::string hostname;
  std::string domainname;
  std::vector<Mount> mounts;
  Hooks hooks;
  std::map<std::string, std::string> annotations;

  // linux
  std::vector<Namespace> namespaces;
  std::vector<IdMapping> uid_mappings;
  std::vector<IdMapping> gid_mappings;
  std::vector<Device> devices;
  std::vector<NetDevice> net_devices;
  std::string cgroups_path;
  Resources resources;
  std::optional<Seccomp> seccomp;
  std::map<std::string, std::string> sysctl;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  Propagation rootfs_propagation = Propagation::kUnset;
  std::string mount_label;                   ///< of SELinux
  std::optional<unsigned long> personality;  ///< PER_* (personality(2))
  std::optional<MemoryPolicy> memory_policy;
  std::vector<TimeOffset> time_offsets;
  std::optional<IntelRdt> intel_rdt;

  /// The entry for `kind`; null where the container shares its creator's.
  const Namespace* find_namespace(NamespaceKind kind) const;
  /// A new one is to be made (an entry without a path).
  bool makes(NamespaceKind kind) const;
};

}  // namespace layerfs::spec
