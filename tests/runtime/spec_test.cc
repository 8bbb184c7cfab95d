// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <nlohmann/json.hpp>

#include "runtime/spec/image_defaults.h"
#include "runtime/spec/parse_spec.h"

namespace layerfs::spec {
namespace {

using nlohmann::json;

json minimal() {
  return json::parse(R"({
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "process": {"cwd": "/", "args": ["sh"], "env": ["A=1"]},
    "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}
  })");
}

TEST(ParseSpec, ReadsWhatIsThere) {
  json config = minimal();
  config["hostname"] = "box";
  config["linux"]["namespaces"].push_back({{"type", "uts"}});
  config["linux"]["namespaces"].push_back({{"type", "network"}, {"path", "/run/ns"}});
  config["linux"]["resources"] = {{"memory", {{"limit", 1024}}}, {"pids", {{"limit", 7}}}};
  config["linux"]["devices"] = {
      {{"path", "/dev/x"}, {"type", "c"}, {"major", 1}, {"minor", 3}, {"fileMode", 438}}};
  config["process"]["user"] = {{"uid", 5}, {"gid", 6}, {"additionalGids", {7, 8}}, {"umask", 18}};
  auto spec = parse_spec(config.dump());
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_EQ(spec->hostname, "box");
  EXPECT_TRUE(spec->makes(NamespaceKind::kPid));
  EXPECT_FALSE(spec->makes(NamespaceKind::kNetwork));
  EXPECT_EQ(spec->find_namespace(NamespaceKind::kNetwork)->path, "/run/ns");
  EXPECT_EQ(spec->resources.memory_limit, 1024);
  EXPECT_EQ(spec->resources.pids_limit, 7);
  EXPECT_EQ(spec->devices.at(0).file_mode, 0666U);
  EXPECT_EQ(spec->process.user.additional_gids, (std::vector<std::uint32_t>{7, 8}));
  EXPECT_EQ(spec->process.user.umask, 022U);
}

TEST(ParseSpec, DeadlinesThatCannotBeAreErrors) {
  auto message = [](json scheduler) {
    json config = minimal();
    scheduler["policy"] = "SCHED_DEADLINE";
    config["process"]["scheduler"] = scheduler;
    auto spec = parse_spec(config.dump());
    return spec ? std::string() : spec.error().message();
  };
  EXPECT_EQ(message({{"runtime", 5000}, {"deadline", 6000}}), "");
  EXPECT_EQ(message({{"runtime", 5000}, {"deadline", 6000}, {"period", 7000}}), "");
  for (const auto& [scheduler, text] : std::vector<std::pair<json, std::string>>{
           {{{"deadline", 6000}}, "requires `runtime`"},
           {{{"runtime", 5000}}, "requires `deadline`"},
           {{{"runtime", 0}, {"deadline", 6000}}, "runtime must be greater than 0"},
           {{{"runtime", 1023}, {"deadline", 6000}}, "runtime 1023 must be between 1024 and"},
           {{{"runtime", 1ULL << 63}, {"deadline", ~0ULL}}, "runtime 9223372036854775808 must be between"},
           {{{"runtime", 5000}, {"deadline", 4000}}, "runtime 5000 must be <= deadline 4000"},
           {{{"runtime", 5000}, {"deadline", 6000}, {"period", 5500}},
            "deadline 6000 must be <= period 5500"}})
    EXPECT_NE(message(scheduler).find("sched_setattr: `SCHED_DEADLINE` " + text), std::string::npos)
        << message(scheduler);
}

TEST(ParseSpec, TheIdleClassHasNoPriority) {
  json config = minimal();
  config["process"]["ioPriority"] = {{"class", "IOPRIO_CLASS_IDLE"}};
  EXPECT_TRUE(parse_spec(config.dump()));
  config["process"]["ioPriority"] = {{"class", "IOPRIO_CLASS_BE"}};
  EXPECT_FALSE(parse_spec(config.dump()));
}

TEST(ParseSpec, HooksWriteWhereAnnotationsSay) {
  json config = minimal();
  config["annotations"] = {{"run.oci.hooks.stdout", "/out"}, {"run.oci.hooks.stderr", "/err"}};
  auto spec = parse_spec(config.dump());
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_EQ(spec->hooks.stdout_path, "/out");
  EXPECT_EQ(spec->hooks.stderr_path, "/err");
}

TEST(ParseSpec, IgnoresWhatTheSpecificationDoesNotKnow) {
  json config = minimal();
  config["com.example.extension"] = {{"x", 1}};
  config["process"]["unknown"] = true;
  EXPECT_TRUE(parse_spec(config.dump()));
}

TEST(ParseSpec, NullIsAbsence) {
  json config = minimal();
  config["hostname"] = nullptr;
  config["process"]["capabilities"] = nullptr;
  config["linux"]["resources"] = nullptr;
  auto spec = parse_spec(config.dump());
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_FALSE(spec->process.capabilities);
}

struct BadField {
  const char* pointer;  ///< JSON pointer of what is set
  const char* value;
  const char* named;  ///< the field in the message
};

class BadSpec : public testing::TestWithParam<BadField> {};

TEST_P(BadSpec, IsRefusedByTheFieldsName) {
  json config = minimal();
  config[json::json_pointer(GetParam().pointer)] = json::parse(GetParam().value);
  auto spec = parse_spec(config.dump());
  ASSERT_FALSE(spec);
  EXPECT_NE(spec.error().message().find(GetParam().named), std::string::npos) << spec.error().message();
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadSpec,
    testing::Values(
        BadField{"/ociVersion", "\"2.0.0\"", "ociVersion"},
        BadField{"/ociVersion", "\"1.4.0\"", "ociVersion"}, BadField{"/ociVersion", "\"one\"", "ociVersion"},
        BadField{"/ociVersion", "1", "ociVersion"}, BadField{"/root", "null", "root"},
        BadField{"/root", "[]", "root"}, BadField{"/root/path", "\"\"", "root.path"},
        BadField{"/process/cwd", "\"rel\"", "process.cwd"}, BadField{"/process/cwd", "\"\"", "process.cwd"},
        BadField{"/process/args", "\"sh\"", "process.args"}, BadField{"/process/args", "[1]", "process.args"},
        BadField{"/process/args", R"(["a\u0000b"])", "process.args"},
        BadField{"/process/env", R"(["NOVALUE"])", "process.env"},
        BadField{"/process/env", R"(["=x"])", "process.env"},
        BadField{"/process/terminal", "1", "process.terminal"},
        BadField{"/process/user", R"({"uid": -1})", "process.user.uid"},
        BadField{"/process/user", R"({"uid": 4294967296})", "process.user.uid"},
        BadField{"/process/user", R"({"uid": 4294967295})", "process.user.uid"},
        BadField{"/process/user", R"({"gid": 4294967295})", "process.user.gid"},
        BadField{"/process/user", R"({"additionalGids": [1, 4294967295]})", "process.user.additionalGids"},
        BadField{"/process/oomScoreAdj", "1001", "process.oomScoreAdj"},
        BadField{"/process/rlimits", R"([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}])", "process.rlimits"},
        BadField{"/process/rlimits", R"([{"type": "RLIMIT_CPU", "soft": 1}])", "process.rlimits[0].hard"},
        BadField{"/process/ioPriority", R"({"class": "IOPRIO_CLASS_BE"})", "process.ioPriority.priority"},
        BadField{"/mounts", R"([{"type": "proc"}])", "mounts[0].destination"},
        BadField{"/mounts", R"([{"destination": "/x", "uidMappings": [{"a": 1}]}])", "mounts[0].uidMappings"},
        BadField{"/mounts",
                 R"([{"destination": "/x", "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}])",
                 "mounts[0].gidMappings"},
        BadField{"/mounts",
                 R"([{"destination": "/x", "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}])",
                 "mounts[0].uidMappings"},
        BadField{"/hooks", R"({"prestart": [{"path": "rel"}]})", "hooks.prestart[0].path"},
        BadField{"/hooks", R"({"poststop": [{"path": "/x", "timeout": 0}]})", "hooks.poststop[0].timeout"},
        BadField{"/hostname", "\"x\"", "hostname"}, BadField{"/domainname", "\"x\"", "domainname"},
        BadField{"/annotations", R"({"a": 1})", "annotations.a"},
        BadField{"/linux/namespaces", R"([{"type": "what"}])", "linux.namespaces[0].type"},
        BadField{"/linux/namespaces", R"([{"type": "mount"}, {"type": "mount"}])", "linux.namespaces"},
        BadField{"/linux/namespaces", R"([{"type": "mount"}, {"type": "pid", "path": "rel"}])",
                 "linux.namespaces"},
        BadField{"/linux/namespaces", R"([{"type": "mount"}, {"type": "user"}])", "linux.uidMappings"},
        BadField{"/linux/uidMappings", R"([{"containerID": 0, "hostID": 0, "size": 1}])",
                 "linux.uidMappings"},
        BadField{"/linux/uidMappings", R"([{"containerID": 0, "size": 1}])", "linux.uidMappings[0].hostID"},
        BadField{"/linux/devices", R"([{"path": "/dev/x", "type": "q"}])", "linux.devices[0].type"},
        BadField{"/linux/devices", R"([{"path": "/dev/x", "type": "c", "minor": 1}])",
                 "linux.devices[0].major"},
        BadField{"/linux/devices", R"([{"path": "dev/x", "type": "p"}])", "linux.devices"},
        BadField{"/linux/maskedPaths", R"([""])", "linux.maskedPaths"},
        BadField{"/linux/readonlyPaths", R"([""])", "linux.readonlyPaths"},
        BadField{"/linux/sysctl", R"({"kernel.hostname": "x"})", "linux.sysctl.kernel.hostname"},
        BadField{"/linux/sysctl", R"({"kernel.msgmax": "1"})",
                 "linux.sysctl.kernel.msgmax': needs a namespace of its own: 'ipc'"},
        BadField{"/linux/sysctl", R"({"fs/mqueue/queues_max": "1"})", "needs a namespace of its own: 'ipc'"},
        BadField{"/linux/sysctl", R"({"net.ipv4.ip_forward": "1"})",
                 "needs a namespace of its own: 'network'"},
        BadField{"/linux/sysctl", R"({"vm.swappiness": "1"})", "linux.sysctl.vm.swappiness"},
        BadField{"/linux/sysctl", R"({"net/../kernel/panic": "1"})", "linux.sysctl.net/../kernel/panic"},
        BadField{"/linux/sysctl", R"({"net.//.kernel.panic": "1"})", "linux.sysctl.net.//.kernel.panic"},
        BadField{"/linux/sysctl", R"({"net.": "1"})", "no name of a setting"},
        BadField{"/linux/sysctl", R"({"net..ipv4": "1"})", "no name of a setting"},
        BadField{"/linux/cgroupsPath", "\"/a/../../../tmp/x\"", "linux.cgroupsPath"},
        BadField{"/linux/cgroupsPath", "\"..\"", "linux.cgroupsPath"},
        BadField{"/linux/resources", R"({"hugepageLimits": [{"pageSize": "2MB/../x", "limit": 1}]})",
                 "linux.resources.hugepageLimits"},
        BadField{"/linux/resources", R"({"hugepageLimits": [{"pageSize": "MB", "limit": 1}]})",
                 "linux.resources.hugepageLimits"},
        BadField{"/linux/rootfsPropagation", "\"x\"", "linux.rootfsPropagation"},
        BadField{"/linux/intelRdt", R"({"closID": "../x"})", "linux.intelRdt.closID"},
        BadField{"/linux/intelRdt", R"({"closID": "info"})", "linux.intelRdt.closID"},
        BadField{"/linux/intelRdt", R"({"memBwSchema": "L3:0=1"})", "linux.intelRdt.memBwSchema"},
        BadField{"/linux/intelRdt", R"({"memBwSchema": "MB:0=1\nL3:0=1"})", "linux.intelRdt.memBwSchema"},
        BadField{"/linux/intelRdt", R"({"l3CacheSchema": "L3:0=1\nMB:0=1"})", "linux.intelRdt.l3CacheSchema"},
        BadField{"/linux/intelRdt", R"({"schemata": ["L3:0=1\n"]})", "linux.intelRdt.schemata"},
        BadField{"/linux/intelRdt", R"({"enableCMT": true})", "linux.intelRdt.enableCMT"},
        BadField{"/linux/mountLabel", "1", "linux.mountLabel"},
        BadField{"/linux/personality", R"({"domain": "LINUX33"})", "linux.personality.domain"},
        BadField{"/linux/memoryPolicy", R"({"mode": "MPOL_X"})", "linux.memoryPolicy.mode"},
        BadField{"/linux/timeOffsets", R"({"monotonic": {"secs": 5}})", "linux.timeOffsets"},
        BadField{"/process/scheduler", R"({"policy": "SCHED_X"})", "process.scheduler.policy"},
        BadField{"/process/ioPriority", R"({"class": "IOPRIO_CLASS_BE", "priority": 8})",
                 "process.ioPriority.priority"},
        BadField{"/linux/netDevices", R"({"eth0": {}})", "linux.netDevices"},
        BadField{"/linux/netDevices", R"({"": {}})", "linux.netDevices."},
        BadField{"/linux/netDevices", R"({"eth%d": {}})", "linux.netDevices.eth%d"},
        BadField{"/linux/netDevices", R"({"a/b": {}})", "linux.netDevices.a/b"},
        BadField{"/linux/netDevices", R"({"eth0": {"name": "sixteen-letters-"}})",
                 "linux.netDevices.eth0.name"},
        BadField{"/linux/netDevices", R"({"eth0": {"name": "x%d%d"}})", "linux.netDevices.eth0.name"},
        BadField{"/linux/netDevices", R"({"eth0": {"name": "x%s"}})", "linux.netDevices.eth0.name"},
        BadField{"/linux/netDevices", R"({"eth0": {"name": "x"}, "eth1": {"name": "x"}})",
                 "linux.netDevices.eth1.name"},
        BadField{"/linux/netDevices", R"({"eth0": "x"})", "linux.netDevices"},
        BadField{"/linux/timeOffsets", R"({"boottime": {"secs": 1}})", "linux.timeOffsets"},
        BadField{"/linux/resources", R"({"devices": [{"allow": true, "access": "x"}]})", "devices[0].access"},
        BadField{"/linux/resources", R"({"memory": {"limit": "1m"}})", "linux.resources.memory.limit"},
        BadField{"/linux/resources", R"({"memory": {"limit": 2, "swap": 1}})", "linux.resources.memory.swap"},
        BadField{"/linux/resources", R"({"memory": {"swappiness": 500}})",
                 "linux.resources.memory.swappiness"},
        BadField{"/linux/resources", R"({"cpu": {"idle": 2}})", "linux.resources.cpu.idle"},
        BadField{"/linux/resources", R"({"rdma": {"x": {}}})", "linux.resources.rdma"},
        BadField{"/linux/resources", R"({"unified": {"../x": "1"}})", "linux.resources.unified"},
        BadField{"/linux/seccomp", R"({"defaultAction": "SCMP_ACT_X"})", "linux.seccomp.defaultAction"},
        BadField{"/linux/seccomp", R"({"defaultaction": "SCMP_ACT_ERRNO"})", "linux.seccomp.defaultAction"},
        BadField{"/linux/seccomp", R"({"defaultAction": "", "flags": []})", "linux.seccomp.defaultAction"},
        BadField{"/linux/seccomp", R"({"defaultAction": 7})", "linux.seccomp.defaultAction"},
        BadField{"/linux/seccomp", R"({"defaultAction": "SCMP_ACT_NOTIFY"})", "linux.seccomp.defaultAction"},
        BadField{"/linux/seccomp", R"({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"})",
                 "linux.seccomp.listenerMetadata"},
        BadField{"/linux/seccomp",
                 R"({"defaultAction": "SCMP_ACT_ALLOW",
                     "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]})",
                 "linux.seccomp.listenerPath"},
        BadField{"/linux/seccomp",
                 R"({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x",
                     "syscalls": [{"names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY"}]})",
                 "linux.seccomp.syscalls"},
        BadField{"/linux/seccomp",
                 R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_LOG"}]})",
                 "linux.seccomp.syscalls[0].names"},
        BadField{
            "/linux/seccomp",
            R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG",
                     "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]})",
            "linux.seccomp.syscalls[0].args[0].index"}));

TEST(ParseResources, ZeroIsNotSetAndMeaningfulZerosStay) {
  auto resources = parse_resources(R"({
      "memory": {"limit": 0, "swap": 0, "reservation": 0, "kernel": 0, "kernelTCP": 0, "swappiness": 0},
      "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0, "burst": 0,
              "idle": 0, "cpus": "", "mems": ""},
      "pids": {"limit": 0}, "network": {"classID": 0},
      "blockIO": {"weight": 0, "leafWeight": 0,
                  "weightDevice": [{"major": 8, "minor": 0, "weight": 0, "leafWeight": 0}],
                  "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]},
      "hugepageLimits": [{"pageSize": "2MB", "limit": 0}]})");
  ASSERT_TRUE(resources) << resources.error().message();
  EXPECT_EQ(resources->memory_swappiness, 0U);
  EXPECT_EQ(resources->cpu_burst, 0U);
  EXPECT_EQ(resources->cpu_idle, 0);
  EXPECT_EQ(resources->block_io.read_bps.size(), 1U);
  EXPECT_EQ(resources->hugepages.size(), 1U);
  EXPECT_FALSE(resources->block_io.device_weights[0].weight ||
               resources->block_io.device_weights[0].leaf_weight);
  Resources rest = *resources;
  rest.memory_swappiness.reset();
  rest.cpu_burst.reset();
  rest.cpu_idle.reset();
  rest.block_io = {};
  rest.hugepages.clear();
  EXPECT_FALSE(rest.has_limits());
}

TEST(ParseSpec, WithoutAMountNamespaceTheCallersMountsStay) {
  json config = minimal();
  config["linux"] = {{"namespaces", {{{"type", "pid"}}}}};
  EXPECT_TRUE(parse_spec(config.dump()));
  struct Change {
    const char* pointer;
    json value;
    const char* field;
  };
  for (const auto& change : {Change{"/linux/maskedPaths", {"/proc/kcore"}, "linux.maskedPaths"},
                             Change{"/linux/readonlyPaths", {"/proc/sys"}, "linux.readonlyPaths"},
                             Change{"/linux/rootfsPropagation", "shared", "linux.rootfsPropagation"},
                             Change{"/root/readonly", true, "root.readonly"}}) {
    json changed = config;
    changed[json::json_pointer(change.pointer)] = change.value;
    auto spec = parse_spec(changed.dump());
    ASSERT_FALSE(spec) << change.field;
    EXPECT_NE(spec.error().message().find(change.field), std::string::npos) << spec.error().message();
  }
}

TEST(ParseSpec, TakesWhatOtherRuntimesTake) {
  json config = minimal();
  config["process"]["user"]["umask"] = 4096;
  config["linux"]["maskedPaths"] = {"proc/kcore"};
  config["linux"]["readonlyPaths"] = {"proc/sys"};
  config["linux"]["seccomp"] = json::object();
  config["linux"]["personality"] = {{"domain", "LINUX"}, {"flags", {"x"}}};
  config["linux"]["resources"] = {{"memory", {{"useHierarchy", false}}}, {"devices", {{{"access", "rwm"}}}}};
  auto spec = parse_spec(config.dump());
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_EQ(spec->masked_paths, std::vector<std::string>{"/proc/kcore"});
  EXPECT_EQ(spec->readonly_paths, std::vector<std::string>{"/proc/sys"});
  EXPECT_FALSE(spec->seccomp) << "an empty profile is none";
  config["linux"]["seccomp"] = {{"defaultAction", ""}};
  spec = parse_spec(config.dump());
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_FALSE(spec->seccomp) << "so is one whose default is empty";
  EXPECT_FALSE(spec->resources.devices.at(0).allow) << "not allowed is what a missing word means";
  config["linux"]["seccomp"] = {{"defaultAction", "SCMP_ACT_ALLOW"},
                                {"syscalls", {{{"names", json::array()}, {"action", "SCMP_ACT_ERRNO"}}}}};
  spec = parse_spec(config.dump());
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_TRUE(spec->seccomp->rules.at(0).names.empty());
}

TEST(ParseSpec, ALimitWithSwapThatIsNotSet) {
  json config = minimal();
  config["linux"]["resources"]["memory"] = {{"limit", 100000000}, {"swap", 0}};
  auto spec = parse_spec(config.dump());
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_EQ(spec->resources.memory_limit, 100000000);
  EXPECT_FALSE(spec->resources.memory_swap);
}

TEST(ParseSpec, NeverFailsOtherwiseThanByAnError) {
  for (const char* text :
       {"", "{", "[]", "null", "\"x\"", "{}", "\xff\xfe", R"({"ociVersion":"1.0.2","root":{"path":"x"}})"})
    EXPECT_FALSE(parse_spec(text)) << text;
  std::string deep(100'000, '[');
  EXPECT_FALSE(parse_spec(deep));
}

TEST(SeccompProfile, TakesWhatItsCapabilitiesAndMachineSay) {
  const char* profile = R"({
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
      {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
      {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
      {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
      {"names": ["strange"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["vax"]}}
    ]})";
  auto names = [&](const std::vector<std::string>& capabilities) {
    std::vector<std::string> list;
    auto parsed = parse_seccomp_profile(profile, capabilities);
    EXPECT_TRUE(parsed) << parsed.error().message();
    for (const auto& rule : parsed->rules) list.push_back(rule.names.at(0));
    return list;
  };
  EXPECT_EQ(names({}), (std::vector<std::string>{"read", "mount"}));
  EXPECT_EQ(names({"CAP_SYS_ADMIN"}), (std::vector<std::string>{"read", "bpf"}));
}

TEST(ParseProcess, IsCheckedAsTheContainersIs) {
  auto refused = [](const char* text) {
    auto process = parse_process(text);
    return process ? "nothing" : process.error().message();
  };
  EXPECT_THAT(refused(R"({"cwd": "x", "args": ["a"]})"), testing::HasSubstr("process.cwd"));
  EXPECT_THAT(refused(R"({"cwd": "/", "args": ["a"], "oomScoreAdj": 2000})"),
              testing::HasSubstr("process.oomScoreAdj"));
}

TEST(ParseProcess, IsBoundAsTheContainerIsWhereItSaysNothing) {
  Process container;
  container.capabilities = Capabilities{{"CAP_KILL"}, {"CAP_KILL"}, {"CAP_KILL"}, {}, {}};
  container.no_new_privileges = true;
  container.rlimits = {{"RLIMIT_NOFILE", 5, 5}};
  container.apparmor_profile = "profile";
  container.selinux_label = "label";
  auto silent = parse_process(R"({"cwd": "/", "args": ["a"]})", container);
  ASSERT_TRUE(silent) << silent.error().message();
  ASSERT_TRUE(silent->capabilities) << "else it would have all of them";
  EXPECT_EQ(silent->capabilities->bounding, container.capabilities->bounding);
  EXPECT_TRUE(silent->no_new_privileges);
  EXPECT_EQ(silent->rlimits.size(), 1U);
  EXPECT_EQ(silent->apparmor_profile, "profile");
  EXPECT_EQ(silent->selinux_label, "label");
  auto own = parse_process(R"({"cwd": "/", "args": ["a"], "noNewPrivileges": false, "rlimits": [],
                               "capabilities": {}, "apparmorProfile": "other", "selinuxLabel": "third"})",
                           container);
  ASSERT_TRUE(own) << own.error().message();
  EXPECT_TRUE(own->capabilities->bounding.empty());
  EXPECT_FALSE(own->no_new_privileges);
  EXPECT_TRUE(own->rlimits.empty());
  EXPECT_EQ(own->apparmor_profile, "other");
  EXPECT_EQ(own->selinux_label, "third");
}

TEST(ParseProcess, NeedsArguments) {
  EXPECT_FALSE(parse_process(R"({"cwd": "/", "args": []})"));
  auto process = parse_process(R"({"cwd": "/", "args": ["a", "b"]})");
  ASSERT_TRUE(process);
  EXPECT_EQ(process->args, (std::vector<std::string>{"a", "b"}));
}

TEST(ImageDefaults, AreWhatRunningNeeds) {
  auto config = parse_image_defaults(R"({"architecture": "amd64", "config": {
    "User": "app:1", "WorkingDir": "/w", "Env": ["A=1"], "Entrypoint": ["/e"], "Cmd": null,
    "Volumes": {"/v": {}}, "StopSignal": "SIGQUIT"}})");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->user, "app:1");
  EXPECT_EQ(config->entrypoint, (std::vector<std::string>{"/e"}));
  EXPECT_TRUE(config->cmd.empty());
  EXPECT_EQ(config->volumes, (std::vector<std::string>{"/v"}));
  EXPECT_TRUE(parse_image_defaults("{}"));
  EXPECT_FALSE(parse_image_defaults(R"({"config": {"Env": "A=1"}})"));
  EXPECT_FALSE(parse_image_defaults("no json"));
}

TEST(Propagation, NamesAreMountFlags) {
  EXPECT_EQ(mount_flags(*find_propagation("rslave")), static_cast<unsigned long>(MS_SLAVE | MS_REC));
  EXPECT_EQ(mount_flags(*find_propagation("private")), static_cast<unsigned long>(MS_PRIVATE));
  EXPECT_FALSE(find_propagation("rsomething"));
}

}  // namespace
}  // namespace layerfs::spec
