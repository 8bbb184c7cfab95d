// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/joined_namespaces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "runtime/container/sealed_self.h"
#include "runtime/plan/run_spec.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::container {
namespace {

using spec::NamespaceKind;
using testing::HasSubstr;

spec::ContainerSpec spec_with(NamespaceKind kind, const std::string& path) {
  spec::ImageDefaults image;
  image.cmd = {"true"};
  auto spec = *plan::make_run_spec(image, {});
  std::erase_if(spec.namespaces, [&](const spec::Namespace& entry) { return entry.kind == kind; });
  spec.namespaces.push_back({kind, path});
  return spec;
}

TEST(JoinedNamespaces, TheCallersOwnIsNoneOfTheContainers) {
  for (auto kind :
       {NamespaceKind::kNetwork, NamespaceKind::kIpc, NamespaceKind::kPid, NamespaceKind::kCgroup}) {
    auto spec = spec_with(kind, "/proc/self/ns/" + std::string(spec::proc_name(kind)));
    auto dropped = drop_callers_namespaces(spec);
    ASSERT_TRUE(dropped) << dropped.error().message();
    EXPECT_EQ(spec.find_namespace(kind), nullptr) << spec::to_text(kind);
    EXPECT_TRUE(spec.makes(NamespaceKind::kMount)) << "the others stay";
  }
}

TEST(JoinedNamespaces, WhatWouldChangeTheCallersIsRefused) {
  auto refused = [](spec::ContainerSpec spec) {
    auto dropped = drop_callers_namespaces(spec);
    return dropped ? std::string("(taken)") : dropped.error().message();
  };
  auto network = spec_with(NamespaceKind::kNetwork, "/proc/self/ns/net");
  network.sysctl["net.ipv4.ip_default_ttl"] = "77";
  EXPECT_THAT(refused(network), HasSubstr("linux.sysctl.net.ipv4.ip_default_ttl"));
  network.sysctl.clear();
  network.net_devices = {{"eth0", "eth0"}};
  EXPECT_THAT(refused(network), HasSubstr("linux.netDevices"));
  auto ipc = spec_with(NamespaceKind::kIpc, "/proc/self/ns/ipc");
  ipc.sysctl["kernel.msgmax"] = "77";
  EXPECT_THAT(refused(ipc), HasSubstr("linux.sysctl.kernel.msgmax"));
  auto uts = spec_with(NamespaceKind::kUts, "/proc/self/ns/uts");
  uts.hostname = "mine";
  EXPECT_THAT(refused(uts), HasSubstr("hostname"));
  EXPECT_THAT(refused(spec_with(NamespaceKind::kMount, "/proc/self/ns/mnt")), HasSubstr("mount namespace"));
}

TEST(JoinedNamespaces, AFileOfAnotherKindIsRefusedAtOnce) {
  ScratchDir dir;
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  for (const std::string& path : {dir / "fifo", dir / "none", std::string("/dev/null")}) {
    auto spec = spec_with(NamespaceKind::kIpc, path);
    auto dropped = drop_callers_namespaces(spec);
    ASSERT_FALSE(dropped) << path;
    EXPECT_THAT(dropped.error().message(), testing::AllOf(HasSubstr("linux.namespaces"), HasSubstr(path)));
  }
}

TEST(SealedSelf, IsNeededAmongOthersWhoMayTrace) {
  EXPECT_FALSE(shows_itself_in({}));
  EXPECT_FALSE(shows_itself_in({{NamespaceKind::kNetwork, "/x"}, {NamespaceKind::kMount, "/x"}}));
  EXPECT_TRUE(shows_itself_in({{NamespaceKind::kPid, "/x"}, {NamespaceKind::kMount, "/x"}}));
  EXPECT_FALSE(shows_itself_in({{NamespaceKind::kUser, "/x"}, {NamespaceKind::kPid, "/x"}}));
}

}  // namespace
}  // namespace layerfs::container
