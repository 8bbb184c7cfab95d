// SPDX-License-Identifier: Apache-2.0
// References, registries.conf and what a name comes to mean by it.
#include <gtest/gtest.h>

#include "fs/base/sys_file.h"
#include "fs/registry/reference.h"
#include "fs/registry/registries_conf.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::registry {
namespace {

std::string whole(std::string_view text) {
  auto reference = parse_reference(text, ShortNames::kDockerHub);
  return reference ? reference->str() : "refused: " + reference.error().message();
}

const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(RegistryReference, ShortNamesAreTheHubs) {
  EXPECT_EQ(whole("busybox"), "docker.io/library/busybox:latest");
  EXPECT_EQ(whole("user/tool:1"), "docker.io/user/tool:1");
  EXPECT_EQ(whole("docker.io/busybox"), "docker.io/library/busybox:latest");
  EXPECT_EQ(whole("index.docker.io/busybox"), "docker.io/library/busybox:latest");
  EXPECT_FALSE(parse_reference("busybox", ShortNames::kRefused));
}

TEST(RegistryReference, HostPortTagAndDigestAreTakenApart) {
  auto reference = parse_reference("host.test:5000/a/b:1@" + kDigest, ShortNames::kRefused);
  ASSERT_TRUE(reference) << reference.error().message();
  EXPECT_EQ(reference->host, "host.test:5000");
  EXPECT_EQ(reference->path, "a/b");
  EXPECT_EQ(reference->tag, "1");
  EXPECT_EQ(reference->digest, kDigest);
  EXPECT_EQ(reference->version(), kDigest);
  EXPECT_EQ(whole("[::1]:5000/a"), "[::1]:5000/a:latest");
  EXPECT_EQ(whole("localhost/a@" + kDigest), "localhost/a@" + kDigest);
}

TEST(RegistryReference, WhatIsNoReferenceIsRefused) {
  for (std::string_view text : {"", "Host.test/Name", "host.test/", "host.test:99999999/a", "a:",
                                "a@sha256:12", "a b", "../a", "host.test/a//b", "-x.test/a", "a\r\nHost: x"})
    EXPECT_FALSE(parse_reference(text, ShortNames::kDockerHub)) << text;
}

TEST(RegistryReference, TheHubIsServedElsewhere) {
  EXPECT_EQ(serving_host("docker.io"), "registry-1.docker.io");
  EXPECT_EQ(serving_host("host.test:5000"), "host.test:5000");
}

RegistriesConf conf_of(std::string_view text) {
  auto conf = parse_registries_conf(text);
  EXPECT_TRUE(conf) << conf.error().message();
  if (!conf) return {};
  conf->is_present = true;
  return std::move(*conf);
}

std::string endpoints_of(const RegistriesConf& conf, std::string_view name) {
  auto reference = parse_reference(name, ShortNames::kRefused);
  auto endpoints = find_endpoints(conf, *reference);
  if (!endpoints) return endpoints.error().message();
  std::string text;
  for (const auto& endpoint : *endpoints)
    text += (text.empty() ? "" : " ") + endpoint.reference.str() + (endpoint.insecure ? "!" : "");
  return text;
}

TEST(RegistriesConf, WhatIsPutGoesToTheRegistryThatWasNamed) {
  auto conf = conf_of(R"(
[[registry]]
prefix = "one.test"
location = "two.test"
insecure = true
[[registry.mirror]]
location = "mirror.test"
[[registry]]
location = "shut.test"
blocked = true
)");
  auto endpoint = find_write_endpoint(conf, *parse_reference("one.test/a:b", ShortNames::kRefused));
  ASSERT_TRUE(endpoint);
  EXPECT_EQ(endpoint->reference.str(), "one.test/a:b");
  EXPECT_TRUE(endpoint->insecure);
  EXPECT_FALSE(find_write_endpoint(conf, *parse_reference("shut.test/a", ShortNames::kRefused)));
  endpoint = find_write_endpoint(conf, *parse_reference("other.test/a:b", ShortNames::kRefused));
  ASSERT_TRUE(endpoint);
  EXPECT_EQ(endpoint->reference.str(), "other.test/a:b");
  EXPECT_FALSE(endpoint->insecure);
}

TEST(RegistriesConf, PrefixesAreRewrittenToLocations) {
  auto conf = conf_of(R"(
[[registry]]
prefix = "one.test/ns"
location = "two.test:5000/other"
insecure = true
[[registry]]
prefix = "*.wild.test"
location = "mirror.test/wild"
[[registry]]
location = "one.test"
)");
  EXPECT_EQ(endpoints_of(conf, "one.test/ns/a:1"), "two.test:5000/other/a:1!");
  EXPECT_EQ(endpoints_of(conf, "one.test/nsx/a:1"), "one.test/nsx/a:1");
  EXPECT_EQ(endpoints_of(conf, "x.wild.test/a:1"), "mirror.test/wild/a:1");
  EXPECT_EQ(endpoints_of(conf, "wild.test/a:1"), "wild.test/a:1");
  EXPECT_EQ(endpoints_of(conf, "three.test/x.wild.test/a:1"), "three.test/x.wild.test/a:1");
}

TEST(RegistriesConf, MirrorsComeFirstAndInOrder) {
  auto conf = conf_of(R"(
[[registry]]
location = "one.test"
[[registry.mirror]]
location = "m1.test"
insecure = true
[[registry.mirror]]
location = "m2.test/x"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "m3.test"
pull-from-mirror = "tag-only"
)");
  EXPECT_EQ(endpoints_of(conf, "one.test/a:1"), "m1.test/a:1! m3.test/a:1 one.test/a:1");
  EXPECT_EQ(endpoints_of(conf, "one.test/a@" + kDigest),
            "m1.test/a@" + kDigest + "! m2.test/x/a@" + kDigest + " one.test/a@" + kDigest);
}

TEST(RegistriesConf, ABlockedRegistryIsNotAsked) {
  auto conf = conf_of(
      "[[registry]]\nlocation = \"one.test\"\n[[registry]]\nprefix = \"one.test/no\"\n"
      "location = \"one.test/no\"\nblocked = true\n");
  EXPECT_EQ(endpoints_of(conf, "one.test/yes:1"), "one.test/yes:1");
  EXPECT_NE(endpoints_of(conf, "one.test/no/a:1").find("blocked"), std::string::npos);
}

std::string meaning(const RegistriesConf& conf, std::string_view name) {
  auto resolved = resolve_name(conf, name);
  if (!resolved) return "refused";
  std::string text;
  for (const auto& candidate : resolved->candidates) text += (text.empty() ? "" : " ") + candidate.str();
  return text + (resolved->note.empty() ? "" : " (noted)");
}

TEST(RegistriesConf, ShortNamesAreResolved) {
  auto conf = conf_of(
      "unqualified-search-registries = [\"one.test\", \"two.test\"]\n[aliases]\n\"tool\" = "
      "\"three.test/x/tool\"\n");
  EXPECT_EQ(meaning(conf, "tool:2"), "three.test/x/tool:2");
  EXPECT_EQ(meaning(conf, "a/b"), "one.test/a/b:latest two.test/a/b:latest");
  EXPECT_EQ(meaning(conf, "four.test/a"), "four.test/a:latest");
  conf.mode = ShortNameMode::kEnforcing;
  EXPECT_EQ(meaning(conf, "a/b"), "refused");
  conf.search = {"one.test"};
  EXPECT_EQ(meaning(conf, "a/b"), "one.test/a/b:latest");
  conf.mode = ShortNameMode::kDisabled;
  EXPECT_EQ(meaning(conf, "tool"), "one.test/tool:latest");
  EXPECT_EQ(meaning(conf_of(""), "a"), "refused");
  EXPECT_EQ(meaning(RegistriesConf{}, "a"), "docker.io/library/a:latest (noted)");
}

TEST(RegistriesConf, WhatIsWrongIsRefused) {
  for (std::string_view text :
       {"[registries.search]\nregistries = []\n", "[[registry]]\n", "[[registry]]\nlocation = 1\n",
        "x = ", "[[registry]]\nlocation = \"https://one.test\"\n", "[[registry]]\nprefix = \"one.test\"\n",
        "short-name-mode = \"perhaps\"\n", "[aliases]\n\"a:1\" = \"one.test/a\"\n",
        "[aliases]\n\"a\" = \"a\"\n", "registry = 3\n",
        "[[registry]]\nlocation = \"a.test\"\n[[registry]]\nlocation = \"a.test\"\n",
        "[[registry]]\nlocation = \"a.test\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "
        "\"b.test\"\n"
        "pull-from-mirror = \"all\"\n"})
    EXPECT_FALSE(parse_registries_conf(text)) << text;
}

class RegistriesConfFiles : public testing::Test {
 protected:
  void put(const std::string& path, std::string_view text) {
    std::string file = dir_ / path;
    ASSERT_TRUE(make_dirs(file.substr(0, file.rfind('/')), 0755));
    ASSERT_TRUE(write_file_atomic(file, text, 0644));
  }
  std::string search() {
    ConfigPaths config_paths;
    config_paths.etc = dir_ / "etc";
    config_paths.home = dir_ / "home";
    config_paths.cache_home = dir_ / "cache";
    config_paths.registries_conf = named_;
    auto conf = read_registries_conf(config_paths);
    if (!conf) return conf.error().message();
    aliases_ = conf->aliases;
    std::string text = conf->is_present ? "" : "none";
    for (const auto& registry : conf->search.value_or(std::vector<std::string>{})) text += registry + ' ';
    return text;
  }
  static std::string searching(std::string_view registry) {
    return "unqualified-search-registries = [\"" + std::string(registry) + "\"]\n";
  }
  ScratchDir dir_;
  std::string named_;
  std::map<std::string, std::string> aliases_;
};

TEST_F(RegistriesConfFiles, DropInsAreOverTheFileAndTheUsersInItsPlace) {
  EXPECT_EQ(search(), "none");
  put("etc/containers/registries.conf", searching("system.test"));
  EXPECT_EQ(search(), "system.test ");
  put("etc/containers/registries.conf.d/10-a.conf", searching("drop.test"));
  put("etc/containers/registries.conf.d/20-b.conf.off", searching("off.test"));
  EXPECT_EQ(search(), "drop.test ");
  put("home/.config/containers/registries.conf.d/a.conf", searching("mine.test"));
  EXPECT_EQ(search(), "mine.test ");
  put("home/.config/containers/registries.conf.d/a.conf", "");
  put("home/.config/containers/registries.conf", searching("user.test"));
  EXPECT_EQ(search(), "user.test ");
  put("other.conf", searching("other.test"));
  named_ = dir_ / "other.conf";
  EXPECT_EQ(search(), "drop.test ");
  named_ = dir_ / "missing.conf";
  EXPECT_NE(search().find("missing.conf"), std::string::npos);
}

TEST_F(RegistriesConfFiles, ChosenAliasesComeBeforeConfiguredOnes) {
  put("etc/containers/registries.conf", "[aliases]\n\"a\" = \"one.test/a\"\n\"b\" = \"one.test/b\"\n");
  put("cache/containers/short-name-aliases.conf", "[aliases]\n\"a\" = \"two.test/a\"\n");
  EXPECT_EQ(search(), "");
  EXPECT_EQ(aliases_["a"], "two.test/a");
  EXPECT_EQ(aliases_["b"], "one.test/b");
  put("etc/containers/registries.conf.d/a.conf", "[[registry]\n");
  EXPECT_NE(search().find("a.conf"), std::string::npos);
}

}  // namespace
}  // namespace layerfs::registry
