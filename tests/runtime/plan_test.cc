// SPDX-License-Identifier: Apache-2.0
// Small plans: ids, users, capabilities, mount options, run's options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/mount.h>

#include <algorithm>

#include "runtime/plan/capability_set.h"
#include "runtime/plan/container_plan.h"
#include "runtime/plan/id_map.h"
#include "runtime/plan/mount_options.h"
#include "runtime/plan/run_spec.h"
#include "runtime/plan/user_lookup.h"

namespace layerfs::plan {
namespace {

using Strings = std::vector<std::string>;

TEST(SubIds, LinesOfTheNameOrNumberCount) {
  const char* text = "# comment\nalice:100000:65536\nbob:200000:1000\n1000:300000:10\nalice:400000:5\n";
  EXPECT_EQ(parse_sub_ids(text, "alice", 1000),
            (std::vector<SubIdRange>{{100000, 65536}, {300000, 10}, {400000, 5}}));
  EXPECT_TRUE(parse_sub_ids(text, "carol", 7).empty());
}

TEST(SubIds, LinesOfAnotherFormAreSkipped) {
  for (const char* text :
       {"", "alice", "alice:", "alice:1", "alice:x:5", "alice:5:x", "alice:0:5", "alice:5:0",
        "alice:4294967295:2", "alice:99999999999:1", ":1:1", "alice:-1:5", "alice:1:2:3"})
    EXPECT_TRUE(parse_sub_ids(text, "alice", 1000).empty()) << text;
}

TEST(IdMap, ContainerZeroIsTheCallerAndRangesFollow) {
  auto map = rootless_map(1000, {{100000, 65536}, {300000, 10}});
  EXPECT_EQ(format_map(map), "0 1000 1\n1 100000 65536\n65537 300000 10\n");
  EXPECT_EQ(helper_arguments(rootless_map(7, {})), (Strings{"0", "7", "1"}));
  EXPECT_TRUE(maps_id(map, 0) && maps_id(map, 65546));
  EXPECT_FALSE(maps_id(map, 65547));
}

TEST(IdMap, AdjoiningRangesAreTwo) {
  EXPECT_EQ(
      rootless_map(1000, {{100, 10}, {110, 10}, {999, 1}, {1001, 5}}),
      (std::vector<spec::IdMapping>{{0, 1000, 1}, {1, 100, 10}, {11, 110, 10}, {21, 999, 1}, {22, 1001, 5}}));
}

TEST(IdMap, OverlappingRangesAreLeftOut) {
  EXPECT_EQ(rootless_map(1000, {{900, 200}, {2000, 10}, {2005, 10}}),
            (std::vector<spec::IdMapping>{{0, 1000, 1}, {1, 2000, 10}}));
}

TEST(IdMap, WhoWritesIt) {
  std::vector<spec::IdMapping> own{{0, 1000, 1}};
  std::vector<spec::IdMapping> wide{{0, 1000, 1}, {1, 100000, 65536}};
  EXPECT_EQ(plan_id_maps({}, {}, false, 1000, 1000).writer, MapWriter::kNone);
  EXPECT_EQ(plan_id_maps(wide, wide, false, 1000, 1000).writer, MapWriter::kHelper);
  IdMapPlan single = plan_id_maps(own, own, false, 1000, 1000);
  EXPECT_EQ(single.writer, MapWriter::kDirect);
  EXPECT_TRUE(single.deny_setgroups);
  IdMapPlan root = plan_id_maps(wide, wide, true, 0, 0);
  EXPECT_EQ(root.writer, MapWriter::kDirect);
  EXPECT_FALSE(root.deny_setgroups);
}

constexpr const char* kPasswd =
    "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:9:9::/:\napp:x:1000:1000::/home/app:/bin/sh\nodd:x:x:1::/:\n";
constexpr const char* kGroup = "root:x:0:\napp:x:1000:\nextra:x:1001:app,other\nbroken\ntoo:x:no:app\n";

TEST(UserLookup, FindsNamesAndNumbers) {
  EXPECT_EQ(*find_user("", kPasswd, kGroup), (FoundUser{0, 0, {0}, "/root"}));
  EXPECT_EQ(*find_user("app", kPasswd, kGroup), (FoundUser{1000, 1000, {1000, 1001}, "/home/app"}));
  EXPECT_EQ(*find_user("1000", kPasswd, kGroup), (FoundUser{1000, 1000, {1000, 1001}, "/home/app"}));
  EXPECT_EQ(*find_user("1234", kPasswd, kGroup), (FoundUser{1234, 0, {0}, "/"}));
  EXPECT_EQ(*find_user("1234:4321", kPasswd, kGroup), (FoundUser{1234, 4321, {4321}, "/"}));
  EXPECT_EQ(*find_user("app:extra", kPasswd, kGroup), (FoundUser{1000, 1001, {1001}, "/home/app"}));
  EXPECT_EQ(*find_user("0", "", ""), (FoundUser{0, 0, {0}, "/root"}));
}

TEST(UserLookup, DigitsAreAnIdAndNeverAName) {
  const char* passwd =
      "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\n007:x:0:0:::\n"
      "4294967296:x:0:0:::\n99999999999999999999:x:0:0:::\nu:x:1001:1001:::\n";
  const char* group = "root:x:0:\n2000:x:0:u\n";
  EXPECT_EQ(*find_user("1000", passwd, group), (FoundUser{1000, 0, {0}, "/"}));
  EXPECT_EQ(*find_user("007", passwd, group), (FoundUser{7, 0, {0}, "/"}));
  EXPECT_EQ(find_user("u:2000", passwd, group)->gid, 2000U);
  EXPECT_EQ(*find_user("1000:2000", passwd, group), (FoundUser{1000, 2000, {2000}, "/"}));
  for (const char* text : {"4294967295", "4294967296", "99999999999999999999"})
    for (const std::string& user : {std::string(text), std::string("u:") + text}) {
      auto found = find_user(user, passwd, group);
      ASSERT_FALSE(found) << user;
      EXPECT_THAT(found.error().message(),
                  testing::AllOf(testing::HasSubstr(text), testing::HasSubstr("range")));
    }
}

TEST(UserLookup, LinesAreReadAsOthersReadThem) {
  const char* passwd =
      "# comment\nroot:x:0:0:root:/root:/bin/sh\n\n+::::::\nshort5:x:1005:1105:gecos\nshort3:x:1003\n"
      "crlf:x:1007:1107::/home/crlf:/bin/sh\r\n lead:x:1008:1108::/h8:/bin/sh\ndup:x:1009:1109::/first:\n"
      "dup:x:1010:1110::/second:\nbad:x:notanumber:12:::\nworse:x:13:no:::\nnone:x\nempty:x::5:::\n"
      "extra:x:1012:1112:g:/h12:/bin/sh:more:fields\nlast:x:1013:1113::/last:/bin/sh";
  const char* group =
      "root:x:0:\n# last:x:1:last\ng1:x:2001:last,other\ng2:x:2002:other, last\ngcr:x:2004:last\r\n"
      " glead:x:2005:last\ng1again:x:2001:last\nprimary:x:1113:last\nbad:x:x:last\nend:x:2006:last";
  EXPECT_EQ(*find_user("short5", passwd, group), (FoundUser{1005, 1105, {1105}, "/"}));
  EXPECT_EQ(*find_user("short3", passwd, group), (FoundUser{1003, 0, {0}, "/"}));
  EXPECT_EQ(*find_user("crlf", passwd, group), (FoundUser{1007, 1107, {1107}, "/home/crlf"}));
  EXPECT_EQ(*find_user("lead", passwd, group), (FoundUser{1008, 1108, {1108}, "/h8"}));
  EXPECT_EQ(*find_user("dup", passwd, group), (FoundUser{1009, 1109, {1109}, "/first"}));
  EXPECT_EQ(*find_user("extra", passwd, group), (FoundUser{1012, 1112, {1112}, "/h12"}));
  EXPECT_EQ(*find_user("last", passwd, group),
            (FoundUser{1013, 1113, {1113, 2001, 2004, 2005, 2006}, "/last"}));
  EXPECT_EQ(find_user("root:end", passwd, group)->gid, 2006U);
  // Nobody is root by a line that cannot be read.
  for (const char* user : {"bad", "worse", "none", "empty", "+", "#", "# comment"})
    EXPECT_FALSE(find_user(user, passwd, group)) << user;
}

TEST(UserLookup, UnknownNamesAreErrors) {
  for (const char* text : {"nobody-here", "app:no-group", "4294967295", "99999999999", "-1", "odd"})
    EXPECT_FALSE(find_user(text, kPasswd, kGroup)) << text;
}

TEST(Capabilities, NamesInAnyForm) {
  EXPECT_EQ(find_capability("CAP_SYS_ADMIN"), 21U);
  EXPECT_EQ(find_capability("sys_admin"), 21U);
  EXPECT_EQ(find_capability("cap_checkpoint_restore"), 40U);
  EXPECT_FALSE(find_capability("CAP_WHAT"));
  EXPECT_EQ(capability_name(0), "CAP_CHOWN");
}

TEST(Capabilities, DefaultIsFourteen) {
  EXPECT_EQ(*parse_capabilities(default_capabilities(), "x"), 0xa80425fbU);
}

TEST(Capabilities, AddAndDrop) {
  EXPECT_EQ(*adjust_capabilities({"net_admin"}, {"ALL"}), (Strings{"CAP_NET_ADMIN"}));
  EXPECT_EQ(adjust_capabilities({"all"}, {})->size(), 41U);
  EXPECT_EQ(adjust_capabilities({"all"}, {"chown"})->size(), 40U);
  EXPECT_EQ(adjust_capabilities({}, {"mknod"})->size(), 13U);
  EXPECT_FALSE(adjust_capabilities({"what"}, {}));
}

TEST(Capabilities, AmbientIsWhatTheKernelLetsBeAmbient) {
  std::vector<std::string> all{"CAP_CHOWN", "CAP_KILL"};
  EXPECT_EQ(plan_capabilities({all, all, all, {}, all}, 40).ambient, 0U);
  EXPECT_EQ(plan_capabilities({all, all, all, {"CAP_CHOWN"}, all}, 40).ambient, 1U);
}

TEST(Capabilities, WhatNobodyKnowsIsLeftOutWithAWord) {
  Strings named{"CAP_KILL", "CAP_UNKNOWN", "CAP_42"};
  spec::Capabilities wanted{named, named, named, {"CAP_OTHER"}, {}};
  EXPECT_EQ(plan_capabilities(wanted, 40).effective, 1U << 5);
  EXPECT_EQ(unknown_capabilities(wanted), (Strings{"CAP_UNKNOWN", "CAP_42", "CAP_OTHER"}));
  spec::Process process;
  process.args = {"true"};
  process.capabilities = wanted;
  auto plan = plan_process(process, HostFacts{});
  ASSERT_TRUE(plan) << plan.error().message();
  ASSERT_EQ(plan->warnings.size(), 3U);
  EXPECT_THAT(plan->warnings[0], testing::HasSubstr("CAP_UNKNOWN"));
}

TEST(Environment, OfANameTheLastValueCountsOnce) {
  EXPECT_EQ(unique_env({"PATH=/bin", "V=first", "W=", "V=second", "VV=x", "V=last"}),
            (Strings{"PATH=/bin", "V=last", "W=", "VV=x"}));
  spec::Process process;
  process.args = {"true"};
  process.env = {"V=first", "V=last"};
  EXPECT_EQ(plan_process(process, HostFacts{})->env, Strings{"V=last"});
}

TEST(Capabilities, WhatTheKernelLacksIsLeftOut) {
  spec::Capabilities wanted{{"CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"}, {}, {}, {}, {}};
  EXPECT_EQ(plan_capabilities(wanted, 39).bounding, 1U);
  EXPECT_EQ(plan_capabilities(wanted, 40).bounding, 1U | (1ULL << 40));
}

TEST(MountOptions, FlagsDataAndPropagation) {
  auto options =
      parse_mount_options({"nosuid", "ro", "rw", "noexec", "mode=755", "size=1m", "rslave"}, "tmpfs");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->set_flags, static_cast<unsigned long>(MS_NOSUID | MS_NOEXEC));
  EXPECT_EQ(options->clear_flags, static_cast<unsigned long>(MS_RDONLY));
  EXPECT_EQ(options->data, "mode=755,size=1m");
  EXPECT_EQ(options->propagation, (std::vector<spec::Propagation>{spec::Propagation::kRecursiveSlave}));
  EXPECT_FALSE(options->bind);
}

TEST(MountOptions, ThoseOfAFileSystemMeanNothingToABindMount) {
  auto options = parse_mount_options({"bind", "mode=755", "size=1k", "ro"}, "bind");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->data, "");
  EXPECT_TRUE(options->bind);
  EXPECT_EQ(options->set_flags, static_cast<unsigned long>(MS_RDONLY));
}

TEST(MountOptions, RecursiveOnesAreAttributes) {
  auto options = parse_mount_options({"rbind", "rro", "rnosuid", "rsuid", "rnoatime"}, "none");
  ASSERT_TRUE(options);
  EXPECT_TRUE(options->bind && options->recursive);
  EXPECT_EQ(options->recursive_set, static_cast<std::uint64_t>(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME));
  EXPECT_EQ(options->recursive_clear, static_cast<std::uint64_t>(MOUNT_ATTR_NOSUID | MOUNT_ATTR__ATIME));
}

TEST(MountOptions, EveryOneOfTheSpecificationIsKnown) {
  // runtime-spec, config.md, "Linux mount options": none of them is data of the file system.
  for (const char* name : {"async",          "atime",      "bind",         "defaults",    "dev",
                           "diratime",       "dirsync",    "exec",         "iversion",    "lazytime",
                           "loud",           "mand",       "noatime",      "nodev",       "nodiratime",
                           "noexec",         "noiversion", "nolazytime",   "nomand",      "norelatime",
                           "nostrictatime",  "nosuid",     "nosymfollow",  "private",     "ratime",
                           "rbind",          "rdev",       "rdiratime",    "relatime",    "remount",
                           "rexec",          "rnoatime",   "rnodiratime",  "rnoexec",     "rnorelatime",
                           "rnostrictatime", "rnosuid",    "rnosymfollow", "ro",          "rprivate",
                           "rrelatime",      "rro",        "rrw",          "rshared",     "rslave",
                           "rstrictatime",   "rsuid",      "rsymfollow",   "runbindable", "rw",
                           "shared",         "silent",     "slave",        "strictatime", "suid",
                           "symfollow",      "sync",       "tmpcopyup",    "unbindable",  "idmap",
                           "ridmap"}) {
    auto options = parse_mount_options({name}, "tmpfs");
    ASSERT_TRUE(options) << name;
    EXPECT_EQ(options->data, "") << name;
  }
}

TEST(MountOptions, TheKnownOnesAreListed) {
  auto names = plan::known_mount_options();
  EXPECT_TRUE(std::ranges::is_sorted(names));
  for (const char* name : {"ro", "rbind", "idmap", "tmpcopyup", "rnoatime", "runbindable", "symfollow"})
    EXPECT_THAT(names, testing::Contains(name));
  // Each is understood: none is left for the file system.
  for (const auto& name : names) {
    auto options = plan::parse_mount_options({name}, "tmpfs");
    ASSERT_TRUE(options) << name;
    EXPECT_EQ(options->data, "") << name;
  }
}

TEST(MountOptions, IdMapsAreOfTheTopOrOfTheTree) {
  EXPECT_EQ(parse_mount_options({"bind"}, "")->id_map, IdMapOption::kNone);
  EXPECT_EQ(parse_mount_options({"rbind", "idmap"}, "")->id_map, IdMapOption::kTop);
  EXPECT_EQ(parse_mount_options({"rbind", "ridmap"}, "")->id_map, IdMapOption::kTree);
}

TEST(MountOptions, AnIdMapMayBeWrittenOut) {
  auto options = parse_mount_options({"bind", "ridmap=uids=0-1-10#@10-11-20;gids=0-100-10"}, "");
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->id_map, IdMapOption::kTree);
  EXPECT_EQ(options->uid_map, (std::vector<OptionIdMapping>{{{0, 1, 10}, false}, {{10, 11, 20}, true}}));
  EXPECT_EQ(options->gid_map, (std::vector<OptionIdMapping>{{{0, 100, 10}, false}}));
}

TEST(MountOptions, WhatCannotBeIsAnError) {
  for (const char* text :
       {"idmap=", "idmap=uids=0-1-10", "idmap=uids=0-1-10;gids=0-1", "idmap=uids=0-1-x;gids=0-1-1",
        "idmap=uids=0-1-10;gids=0-1-10;what=1", "idmap=uids=0-1-10-4;gids=0-1-10"})
    EXPECT_FALSE(parse_mount_options({text}, "bind")) << text;
  EXPECT_FALSE(parse_mount_options({"tmpcopyup"}, "proc"));
}

TEST(RunOptions, Volumes) {
  EXPECT_EQ(*parse_volume("/a:/b"), (Volume{"/a", "/b", {"rbind", "nosuid", "nodev", "rprivate"}}));
  EXPECT_EQ(*parse_volume("/a:/b:ro,rslave"),
            (Volume{"/a", "/b", {"rbind", "nosuid", "nodev", "ro", "rslave"}}));
  EXPECT_EQ(parse_volume("/a:/b:bind")->options.front(), "bind");
  EXPECT_FALSE(parse_volume("/a:/b:z")->owned_by_user);
  EXPECT_TRUE(parse_volume("/a:/b:ro,U")->owned_by_user);
  for (const char* text : {"/a", "a:/b", "/a:b", "/a:/", "/a:/b:what", ":/b", "/a:"})
    EXPECT_FALSE(parse_volume(text)) << text;
}

TEST(RunOptions, Sizes) {
  EXPECT_EQ(*parse_size("512", "x"), 512);
  EXPECT_EQ(*parse_size("512m", "x"), 512LL << 20);
  EXPECT_EQ(*parse_size("1.5g", "x"), 3LL << 29);
  EXPECT_EQ(*parse_size("2Kb", "x"), 2048);
  for (const char* text : {"", "m", "5x", "5mm", "-1", "1e30", "nan", "5bb"})
    EXPECT_FALSE(parse_size(text, "x")) << text;
  EXPECT_EQ(*parse_cpus("0.25"), 25000);
  for (const char* text : {"", "0", "-1", "0.001", "x", "1x", "inf"}) EXPECT_FALSE(parse_cpus(text)) << text;
}

TEST(RunSpec, CommandIsEntrypointAndCmd) {
  spec::ImageDefaults image;
  image.entrypoint = {"/e"};
  image.cmd = {"c"};
  RunOptions options;
  EXPECT_EQ(make_run_spec(image, options)->process.args, (Strings{"/e", "c"}));
  options.command = {"x", "y"};
  EXPECT_EQ(make_run_spec(image, options)->process.args, (Strings{"/e", "x", "y"}));
  options.entrypoint = "/other";
  EXPECT_EQ(make_run_spec(image, options)->process.args, (Strings{"/other", "x", "y"}));
  options.command.clear();
  EXPECT_EQ(make_run_spec(image, options)->process.args, (Strings{"/other"}));
  options.entrypoint = "";
  EXPECT_FALSE(make_run_spec(image, options));
}

TEST(RunSpec, EnvironmentIsTheImagesThenTheOptions) {
  spec::ImageDefaults image;
  image.cmd = {"c"};
  image.env = {"A=image", "B=image", "broken"};
  RunOptions options;
  options.env = {"B=option"};
  auto env = make_run_spec(image, options)->process.env;
  EXPECT_NE(std::ranges::find(env, "A=image"), env.end());
  EXPECT_NE(std::ranges::find(env, "B=option"), env.end());
  EXPECT_EQ(std::ranges::find(env, "B=image"), env.end());
  EXPECT_EQ(std::ranges::count_if(env, [](const auto& item) { return item.starts_with("PATH="); }), 1);
}

TEST(RunSpec, RootHasItsGroupsToo) {
  spec::ImageDefaults image;
  image.cmd = {"true"};
  EXPECT_EQ(make_run_spec(image, {})->process.user.lookup, "0");
}

TEST(RunSpec, HidesWhatTellsOfTheMachinesLoad) {
  spec::ImageDefaults image;
  image.cmd = {"true"};
  RunOptions options;
  options.processors = 2;
  auto spec = make_run_spec(image, options);
  for (const char* path : {"/proc/interrupts", "/sys/devices/system/cpu/cpu0/thermal_throttle",
                           "/sys/devices/system/cpu/cpu1/thermal_throttle"})
    EXPECT_THAT(spec->masked_paths, testing::Contains(path));
}

TEST(RunSpec, WithoutARangeThereIsNoTtyGroup) {
  spec::ImageDefaults image;
  image.cmd = {"c"};
  RunOptions options;
  options.uid_map = options.gid_map = {{0, 1000, 1}};
  auto spec = make_run_spec(image, options);
  ASSERT_TRUE(spec);
  EXPECT_TRUE(spec->makes(spec::NamespaceKind::kUser));
  for (const auto& mount : spec->mounts)
    EXPECT_EQ(std::ranges::find(mount.options, "gid=5"), mount.options.end()) << mount.destination;
}

TEST(Rlimits, AreKnownByName) {
  EXPECT_TRUE(find_rlimit("RLIMIT_NOFILE"));
  EXPECT_FALSE(find_rlimit("NOFILE"));
}

TEST(NumberList, ReadsRangesInOrderAndOnce) {
  EXPECT_EQ(*parse_number_list("7,0-2,1", "x"), (std::vector<unsigned>{0, 1, 2, 7}));
  EXPECT_TRUE(parse_number_list("", "x")->empty());
  for (const char* text : {"-", "1-", "-1", "2-1", "a", "1,,2", "1 2", "99999999999", "0-70000"})
    EXPECT_FALSE(parse_number_list(text, "x")) << text;
}

}  // namespace
}  // namespace layerfs::plan
