// SPDX-License-Identifier: Apache-2.0
#include "tools/oci_spec.h"

#include <nlohmann/json.hpp>

#include "runtime/plan/capability_set.h"
#include "runtime/plan/mount_options.h"
#include "runtime/plan/run_spec.h"
#include "runtime/sys/systemd_manager.h"
#include "tools/json_text.h"

namespace layerfs::tools {

namespace {

using Json = nlohmann::ordered_json;

Json mounts(const SpecOptions& options) {
  Json list = Json::array();
  auto add = [&](const char* destination, const char* type, const char* source, Json flags) {
    list.push_back(
        {{"destination", destination}, {"type", type}, {"source", source}, {"options", std::move(flags)}});
  };
  add("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"});
  add("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"});
  Json pts{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"};
  if (!options.rootless) pts.push_back("gid=5");
  add("/dev/pts", "devpts", "devpts", std::move(pts));
  add("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"});
  add("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"});
  add("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"});
  add("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"});
  return list;
}

Json namespaces(const SpecOptions& options) {
  Json list = Json::array();
  for (const char* kind : {"pid", "network", "ipc", "uts", "mount", "cgroup"})
    list.push_back({{"type", kind}});
  if (options.rootless) list.push_back({{"type", "user"}});
  return list;
}

}  // namespace

std::string default_config(const SpecOptions& options) {
  Json capabilities = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  Json config;
  config["ociVersion"] = "1.0.2";
  config["process"] = {
      {"terminal", true},
      {"user", {{"uid", 0}, {"gid", 0}}},
      {"args", {"sh"}},
      {"env", {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"}},
      {"cwd", "/"},
      {"capabilities",
       {{"bounding", capabilities}, {"effective", capabilities}, {"permitted", capabilities}}},
      {"noNewPrivileges", true}};
  config["root"] = {{"path", "rootfs"}, {"readonly", true}};
  config["hostname"] = "layerfs";
  config["mounts"] = mounts(options);
  Json linux_part;
  if (options.rootless) {
    linux_part["uidMappings"] = {{{"containerID", 0}, {"hostID", options.uid}, {"size", 1}}};
    linux_part["gidMappings"] = {{{"containerID", 0}, {"hostID", options.gid}, {"size", 1}}};
  } else {
    linux_part["resources"] = {{"devices", {{{"allow", false}, {"access", "rwm"}}}}};
  }
  linux_part["namespaces"] = namespaces(options);
  linux_part["maskedPaths"] = plan::default_masked_paths();
  linux_part["readonlyPaths"] = plan::default_readonly_paths();
  config["linux"] = std::move(linux_part);
  return json_text(config);
}

std::string features() {
  Json document;
  document["ociVersionMin"] = "1.0.0";
  document["ociVersionMax"] = "1.3.0";
  document["hooks"] = {"prestart",       "createRuntime", "createContainer",
                       "startContainer", "poststart",     "poststop"};
  document["mountOptions"] = plan::known_mount_options();
  Json linux_part;
  linux_part["namespaces"] = {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"};
  Json names = Json::array();
  for (unsigned number = 0; number <= 40; ++number) names.push_back(plan::capability_name(number));
  linux_part["capabilities"] = std::move(names);
  linux_part["cgroup"] = {{"v1", true},
                          {"v2", true},
                          {"systemd", sys::has_systemd_support()},
                          {"systemdUser", sys::has_systemd_support()},
                          {"rdma", true}};
  linux_part["seccomp"] = {
      {"enabled", true},
      {"actions",
       {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"}},
      {"operators",
       {"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
        "SCMP_CMP_NE"}},
      {"archs",
       {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_PPC64",
        "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_X32",
        "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"}},
      {"knownFlags",
       {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}},
      {"supportedFlags",
       {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}}};
  linux_part["apparmor"] = {{"enabled", true}};
  linux_part["selinux"] = {{"enabled", true}};
  linux_part["intelRdt"] = {{"enabled", true}, {"schemata", true}, {"monitoring", true}};
  linux_part["mountExtensions"] = {{"idmap", {{"enabled", true}}}};
  linux_part["netDevices"] = {{"enabled", true}};
  linux_part["memoryPolicy"] = {
      {"modes",
       {"MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED",
        "MPOL_PREFERRED_MANY", "MPOL_LOCAL"}},
      {"flags", {"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"}}};
  document["linux"] = std::move(linux_part);
  // What an annotation may do that its writer could not ask for otherwise.
  document["potentiallyUnsafeConfigAnnotations"] = {"org.systemd.property.", "run.oci.keep_original_groups",
                                                    "run.oci.mount_context_type"};
  return json_text(document);
}

}  // namespace layerfs::tools
