// SPDX-License-Identifier: Apache-2.0
// Files of credentials, helpers, and challenges.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "fs/base/sys_file.h"
#include "fs/registry/challenge.h"
#include "fs/registry/credentials.h"
#include "fs/registry/login.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::registry {
namespace {

std::string shown(const std::vector<Challenge>& challenges) {
  std::string text;
  for (const auto& challenge : challenges) {
    text += '[' + challenge.scheme;
    for (const auto& [name, value] : challenge.parameters) text += ' ' + name + '=' + value;
    text += ']';
  }
  return text;
}

TEST(Challenges, QuotedAndBareParametersAreRead) {
  EXPECT_EQ(
      shown(parse_challenges(R"(Bearer realm="https://a.test/token",service="a b",scope="x:y:pull,push")")),
      "[bearer realm=https://a.test/token service=a b scope=x:y:pull,push]");
  EXPECT_EQ(shown(parse_challenges("BEARER Realm=https://a.test/t?x=1 , service = a")),
            "[bearer realm=https://a.test/t?x=1 service=a]");
  EXPECT_EQ(shown(parse_challenges(R"(Basic realm="say \"x\"")")), R"([basic realm=say "x"])");
}

TEST(Challenges, SeveralStandInOneHeader) {
  EXPECT_EQ(shown(parse_challenges(R"(Negotiate, NTLM abc==, Basic realm="r", Bearer realm="u",service=s)")),
            "[negotiate][ntlm][basic realm=r][bearer realm=u service=s]");
  EXPECT_EQ(shown(parse_challenges(", ,Basic")), "[basic]");
  EXPECT_EQ(shown(parse_challenges("")), "");
}

TEST(Challenges, NothingThatCannotBeReadIsTaken) {
  EXPECT_EQ(shown(parse_challenges("\x01\x02")), "");
  EXPECT_EQ(shown(parse_challenges("Basic realm=\"open")), "[basic realm=open]");
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "Basic,";
  EXPECT_EQ(parse_challenges(many).size(), kMaxChallenges);
}

TEST(Challenges, TheFirstParameterOfANameCounts) {
  auto challenges = parse_challenges("Bearer realm=a, REALM=b");
  ASSERT_EQ(challenges.size(), 1U);
  EXPECT_EQ(challenges[0].find("Realm"), "a");
  EXPECT_EQ(challenges[0].find("service"), "");
}

AuthFile auth_of(std::string_view text) {
  auto file = parse_auth_file(text, AuthFileKind::kCurrent);
  EXPECT_TRUE(file) << file.error().message();
  return file ? *file : AuthFile{};
}
std::string entry(std::string_view user, std::string_view password) {
  return "{\"auth\": \"" + encode_base64(std::string(user) + ':' + std::string(password)) + "\"}";
}
std::string user_for(const AuthFile& file, const std::string& host, const std::string& path) {
  auto found = find_credentials(file, host, path);
  return found ? found->user + '/' + found->password + found->identity_token : "none";
}

TEST(AuthFile, TheLongestKeyWins) {
  auto file =
      auth_of("{\"auths\": {\"one.test\": " + entry("h", "1") + ", \"one.test/ns\": " + entry("n", "2") +
              ", \"one.test/ns/repo\": " + entry("r", "a:b") + "}}");
  EXPECT_EQ(user_for(file, "one.test", "ns/repo"), "r/a:b");
  EXPECT_EQ(user_for(file, "one.test", "ns/other"), "n/2");
  EXPECT_EQ(user_for(file, "one.test", "nsx/other"), "h/1");
  EXPECT_EQ(user_for(file, "one.test.evil.test", "ns/repo"), "none");
  EXPECT_EQ(user_for(file, "one.test:5000", "ns/repo"), "none");
}

TEST(AuthFile, DockersKeysAreKnown) {
  auto file = auth_of("{\"auths\": {\"https://index.docker.io/v1/\": " + entry("d", "1") +
                      ", \"https://one.test/v2/\": " + entry("o", "2") + ", \"two.test\": {}}}");
  EXPECT_EQ(user_for(file, "docker.io", "library/busybox"), "d/1");
  EXPECT_EQ(user_for(file, "one.test", "a"), "o/2");
  EXPECT_EQ(user_for(file, "two.test", "a"), "none");
  auto older = parse_auth_file("{\"one.test\": " + entry("x", "y") + "}", AuthFileKind::kDockercfg);
  ASSERT_TRUE(older);
  EXPECT_EQ(user_for(*older, "one.test", "a"), "x/y");
}

TEST(AuthFile, IdentityTokensAndEmptyFiles) {
  auto file = auth_of(
      R"({"auths": {"one.test": {"identitytoken": "T"}}, "credHelpers": {"a.test": "x"}, "credsStore": "y"})");
  EXPECT_EQ(user_for(file, "one.test", "a"), "/T");
  EXPECT_EQ(file.helpers.at("a.test"), "x");
  EXPECT_EQ(file.store, "y");
  EXPECT_EQ(auth_of(""), AuthFile{});
}

TEST(AuthFile, NoErrorQuotesASecret) {
  std::string secret = "c2VjcmV0LXdpdGhvdXQtY29sb24=";
  for (std::string text :
       {"{\"auths\": {\"a\": {\"auth\": \"" + secret + "\"}}}", "{\"auths\": [\"" + secret + "\"]}",
        "{\"auths\": {\"a\": \"" + secret + "\"}}", secret}) {
    auto file = parse_auth_file(text, AuthFileKind::kCurrent);
    ASSERT_FALSE(file) << text;
    EXPECT_EQ(file.error().message().find(secret), std::string::npos) << file.error().message();
  }
}

TEST(AuthFile, Base64GoesBothWays) {
  for (const std::string& text :
       std::vector<std::string>{"", "a", "ab", "abc", "abcd", std::string("\0\xff\x7f", 3)})
    EXPECT_EQ(decode_base64(encode_base64(text)), text);
  EXPECT_FALSE(decode_base64("a"));
  EXPECT_FALSE(decode_base64("ab!="));
}

class Helpers : public testing::Test {
 protected:
  void SetUp() override {
    path_ = ::getenv("PATH");
    ::setenv("PATH", ((dir_ / "") + ':' + path_).c_str(), 1);
  }
  void TearDown() override { ::setenv("PATH", path_.c_str(), 1); }
  void put_helper(std::string_view body) {
    ASSERT_TRUE(write_file_atomic(dir_ / "docker-credential-here", "#!/bin/sh\n" + std::string(body), 0755));
  }
  std::string ask() {
    auto found = ask_helper("here", "one.test");
    if (!found) return found.error().message();
    return *found ? (*found)->user + '/' + (*found)->password + (*found)->identity_token : "none";
  }
  ScratchDir dir_;
  std::string path_;
};

TEST_F(Helpers, AnswersAreRead) {
  put_helper(
      "read server; [ $1 = get ] && echo \"{\\\"Username\\\": \\\"u\\\", \\\"Secret\\\": "
      "\\\"$server\\\"}\"\n");
  EXPECT_EQ(ask(), "u/one.test");
  put_helper("echo '{\"Username\": \"<token>\", \"Secret\": \"T\"}'\n");
  EXPECT_EQ(ask(), "/T");
}

TEST_F(Helpers, ThatTheyKnowNoneIsAnAnswer) {
  put_helper("echo 'credentials not found in native keychain'; exit 1\n");
  EXPECT_EQ(ask(), "none");
}

TEST_F(Helpers, FailuresAreNamedAndNotQuoted) {
  put_helper("echo SECRET; exit 3\n");
  EXPECT_NE(ask().find("docker-credential-here"), std::string::npos) << ask();
  EXPECT_EQ(ask().find("SECRET"), std::string::npos) << ask();
  put_helper("echo SECRET\n");
  EXPECT_EQ(ask().find("SECRET"), std::string::npos) << ask();
  put_helper("exec yes\n");
  EXPECT_NE(ask().find("longer"), std::string::npos) << ask();
  EXPECT_FALSE(ask_helper("not-there-at-all", "one.test"));
  EXPECT_FALSE(ask_helper("../here", "one.test"));
}

TEST_F(Helpers, ANamedFileIsTheOnlyOneAndTheOthersHaveAnOrder) {
  ConfigPaths config_paths;
  config_paths.home = dir_ / "";
  config_paths.runtime_dir = dir_ / "run";
  config_paths.config_home = dir_ / "config";
  config_paths.docker_config = dir_ / "docker";
  auto put = [&](const std::string& name, std::string_view user) {
    std::string file = dir_ / name;
    ASSERT_TRUE(make_dirs(file.substr(0, file.rfind('/')), 0700));
    ASSERT_TRUE(write_file_atomic(file, "{\"auths\": {\"one.test\": " + entry(user, "p") + "}}", 0600));
  };
  auto user = [&](const std::string& file) -> std::string {
    auto found = find_user_credentials(config_paths, {}, file, "one.test", "a");
    if (!found) return "error";
    return *found ? (*found)->user : "none";
  };
  EXPECT_EQ(user(""), "none");
  put("docker/config.json", "docker");
  EXPECT_EQ(user(""), "docker");
  put("config/containers/auth.json", "config");
  EXPECT_EQ(user(""), "config");
  put("run/containers/auth.json", "login");
  EXPECT_EQ(user(""), "login");
  config_paths.auth_file = dir_ / "environment.json";
  EXPECT_EQ(user(""), "none");
  put("environment.json", "environment");
  EXPECT_EQ(user(""), "environment");
  EXPECT_EQ(user(dir_ / "missing.json"), "error");
  put("given.json", "given");
  EXPECT_EQ(user(dir_ / "given.json"), "given");
}

TEST(Login, NamesOfRegistries) {
  for (const auto& [text, key] :
       std::vector<std::pair<std::string, std::string>>{{"one.test", "one.test"},
                                                        {"https://one.test:5000/", "one.test:5000"},
                                                        {"one.test/ns/repo", "one.test/ns/repo"},
                                                        {"index.docker.io", "docker.io"},
                                                        {"registry", "registry"},
                                                        {"localhost", "localhost"}}) {
    auto parsed = parse_login_name(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error().message();
    EXPECT_EQ(*parsed, key);
  }
  for (const char* text : {"", "/", "https://", "one.test/Ns", "one.test/a:tag", "one test", "one.test/a@b"})
    EXPECT_FALSE(parse_login_name(text)) << text;
}

TEST(Login, AnEntryIsPutAndTakenAndTheRestStays) {
  std::string text =
      R"({"auths":{"b.test":{"auth":"YTpi"},"a.test":{"identitytoken":"t"}},"more":{"z":1,"a":[2]}})";
  auto put = put_auth_entry(text, "c.test/ns", {"user", "pass:word", {}});
  ASSERT_TRUE(put) << put.error().message();
  auto file = auth_of(*put);
  EXPECT_EQ(user_for(file, "c.test", "ns/x"), "user/pass:word");
  EXPECT_EQ(user_for(file, "b.test", "x"), "a/b");
  EXPECT_NE(put->find("\"identitytoken\": \"t\""), std::string::npos);
  EXPECT_LT(put->find("\"z\""), put->find("\"a\": ["));  // in the order in which it was
  auto again = put_auth_entry(*put, "c.test/ns", {"other", "p", {}});
  ASSERT_TRUE(again);
  EXPECT_EQ(auth_of(*again).auths.size(), 3U);
  auto taken = take_auth_entry(*again, "c.test/ns");
  ASSERT_TRUE(taken && *taken);
  EXPECT_EQ(user_for(auth_of(**taken), "c.test", "ns/x"), "none");
  EXPECT_EQ(auth_of(**taken).auths.size(), 2U);
  EXPECT_EQ(*take_auth_entry(**taken, "c.test/ns"), std::nullopt);
  EXPECT_TRUE(auth_of(**take_auth_entry(**taken, "")).auths.empty());
  EXPECT_NE((**take_auth_entry(**taken, "")).find("\"more\""), std::string::npos);
  auto fresh = put_auth_entry("", "a.test", {"u", "p", {}});
  ASSERT_TRUE(fresh);
  EXPECT_EQ(user_for(auth_of(*fresh), "a.test", "x"), "u/p");
  EXPECT_FALSE(put_auth_entry("[]", "a.test", {"u", "p", {}}));
  EXPECT_FALSE(take_auth_entry("{", "a.test"));
}

TEST(Login, DockersUrlGoesWithItsHost) {
  std::string text =
      R"({"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"docker.io":{"auth":"YTpi"}}})";
  auto taken = take_auth_entry(text, "docker.io");
  ASSERT_TRUE(taken && *taken);
  EXPECT_TRUE(auth_of(**taken).auths.empty());
}

}  // namespace
}  // namespace layerfs::registry
