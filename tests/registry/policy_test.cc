// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "fs/base/sys_file.h"
#include "fs/registry/policy.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::registry {
namespace {

constexpr std::string_view kPolicy = R"({
  "default": [{"type": "reject"}],
  "transports": {
    "docker": {
      "one.test": [{"type": "insecureAcceptAnything"}],
      "one.test/bad": [{"type": "reject"}],
      "one.test/bad/but/good": [{"type": "insecureAcceptAnything"}],
      "one.test/image:evil": [{"type": "reject"}],
      "one.test/signed": [{"type": "insecureAcceptAnything"}, {"type": "signedBy", "keyType": "GPGKeys"}],
      "*.wild.test": [{"type": "insecureAcceptAnything"}]
    },
    "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]}
  }
})";

std::string verdict(const Policy& policy, std::string_view name) {
  auto reference = parse_reference(name, ShortNames::kRefused);
  EXPECT_TRUE(reference) << name;
  auto checked = check_policy(policy, *reference);
  return checked ? "accepted" : checked.error().message();
}

TEST(Policy, TheLongestScopeCounts) {
  auto policy = parse_policy(kPolicy);
  ASSERT_TRUE(policy) << policy.error().message();
  EXPECT_EQ(verdict(*policy, "one.test/image:1"), "accepted");
  EXPECT_EQ(verdict(*policy, "one.test/bad/but/good:1"), "accepted");
  EXPECT_EQ(verdict(*policy, "a.b.wild.test:5000/x:1"), "accepted");
  for (std::string_view name : {"one.test/bad:1", "one.test/bad/but:1", "one.test/image:evil",
                                "two.test/image:1", "one.test:5000/image:1", "wild.test/x:1"})
    EXPECT_NE(verdict(*policy, name).find("rejected"), std::string::npos)
        << name << ' ' << verdict(*policy, name);
}

TEST(Policy, WhatCannotBeCheckedIsRefusedByName) {
  auto policy = parse_policy(kPolicy);
  ASSERT_TRUE(policy);
  EXPECT_NE(verdict(*policy, "one.test/signed:1").find("'signedBy'"), std::string::npos);
}

TEST(Policy, AFileThatIsNoneIsRefused) {
  for (std::string_view text :
       {"", "[]", "{}", R"({"default": []})", R"({"default": [{"type": "perhaps"}]})",
        R"({"default": ["reject"]})", R"({"default": [{"type": "reject"}], "transports": []})",
        R"({"default": [{"type": "reject"}], "transports": {"docker": {"a.test": {}}}})"})
    EXPECT_FALSE(parse_policy(text)) << text;
}

TEST(Policy, TheUsersFileIsInPlaceOfTheMachines) {
  ScratchDir dir;
  ConfigPaths config_paths;
  config_paths.etc = dir / "etc";
  config_paths.home = dir / "home";
  auto of_all = [&] {
    auto policy = read_policy(config_paths);
    return policy ? verdict(*policy, "one.test/image:1") : policy.error().message();
  };
  EXPECT_EQ(of_all(), "accepted");
  ASSERT_TRUE(make_dirs(dir / "etc/containers", 0755));
  ASSERT_TRUE(
      write_file_atomic(dir / "etc/containers/policy.json", R"({"default": [{"type": "reject"}]})", 0644));
  EXPECT_NE(of_all().find("rejected"), std::string::npos);
  ASSERT_TRUE(make_dirs(dir / "home/.config/containers", 0755));
  ASSERT_TRUE(write_file_atomic(dir / "home/.config/containers/policy.json", kPolicy, 0644));
  EXPECT_EQ(of_all(), "accepted");
  ASSERT_TRUE(write_file_atomic(dir / "home/.config/containers/policy.json", "{", 0644));
  EXPECT_NE(of_all().find("home/.config/containers/policy.json"), std::string::npos);
}

}  // namespace
}  // namespace layerfs::registry
