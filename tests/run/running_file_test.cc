// SPDX-License-Identifier: Apache-2.0
#include "runtime/run/running_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "fs/base/sys_file.h"
#include "runtime/run/exit_file.h"
#include "runtime/run/labels_file.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::run {
namespace {

const std::string kId(64, 'a');

class RunningFiles : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directory(scratch_.path() + "/running"); }
  std::string path() const { return scratch_.path() + "/running/" + kId; }
  Result<std::optional<FoundRunning>> read(const std::string& text) {
    std::ofstream(path(), std::ios::trunc) << text;
    return find_running(scratch_.path(), kId);
  }
  ScratchDir scratch_;
};

TEST_F(RunningFiles, WhatIsNoneIsAnErrorThatNamesIt) {
  for (const char* text :
       {"", "garbage", "[]", "7", "{}", "[[[[[[[[", R"({"version":"1"})", R"({"version":null,"id":1})",
        R"({"version":2})", "{\"version\":1,\"name\":\"\xff\"}"}) {
    auto found = read(text);
    ASSERT_FALSE(found) << text;
    EXPECT_EQ(found.error().kind, ErrorKind::kCorrupt) << text;
    EXPECT_NE(found.error().message().find(kId), std::string::npos) << found.error().message();
  }
}

TEST_F(RunningFiles, MembersOfAnotherTypeAreAsIfTheyWereNotThere) {
  auto found =
      read(R"({"version":1,"name":7,"pid":"x","startTime":1.5,"monitor":[],"cgroups":{},"remove":"yes"})");
  ASSERT_TRUE(found && *found) << found.error().message();
  const RunningState& state = (*found)->state;
  EXPECT_EQ(state.name, "");
  EXPECT_EQ(state.pid, 0);
  EXPECT_EQ(state.start_time, 0U);
  EXPECT_EQ(state.monitor, 0);
  EXPECT_TRUE(state.cgroups.empty());
  EXPECT_FALSE(state.remove);
}

TEST_F(RunningFiles, OnlyTheContainersOwnGroupsAreItsGroups) {
  std::string own = "/sys/fs/cgroup/x/layerfs-" + kId;
  std::string others = R"("/sys/fs/cgroup","","/sys/fs/cgroup/layerfs-other","relative/layerfs-)" + kId +
                       R"(","/sys/fs/cgroup/../x/layerfs-)" + kId + '"';
  auto found = read(R"({"version":1,"cgroups":[)" + others + R"(,")" + own + R"(",")" + own + R"(-files"]})");
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((*found)->state.cgroups, (std::vector<std::string>{own, own + "-files"}));
}

TEST_F(RunningFiles, WhatIsNoRegularFileIsNotReadNorWaitedFor) {
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  EXPECT_FALSE(find_running(scratch_.path(), kId));
  std::filesystem::remove(path());
  std::ofstream(scratch_.path() + "/elsewhere") << R"({"version":1})";
  std::filesystem::create_symlink("../elsewhere", path());
  EXPECT_FALSE(find_running(scratch_.path(), kId));
  std::filesystem::remove(path());
  std::filesystem::create_directory(path());
  EXPECT_FALSE(find_running(scratch_.path(), kId));
  sweep_stale(scratch_.path());
  EXPECT_TRUE(std::filesystem::exists(path()));
}

TEST_F(RunningFiles, ADirectoryThatIsALinkIsNotFollowed) {
  const std::string elsewhere = scratch_.path() + "/elsewhere";
  std::filesystem::rename(scratch_.path() + "/running", elsewhere);
  std::filesystem::create_directory_symlink(elsewhere, scratch_.path() + "/running");
  RunningState state;
  state.id = kId;
  EXPECT_FALSE(RunningFile::create(scratch_.path(), state));
  std::ofstream(elsewhere + '/' + kId) << R"({"version":1})";
  EXPECT_FALSE(find_running(scratch_.path(), kId));
  EXPECT_FALSE(clean_up(scratch_.path(), state));
  sweep_stale(scratch_.path());
  EXPECT_TRUE(std::filesystem::exists(elsewhere + '/' + kId));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(elsewhere), {}), 1);
}

TEST_F(RunningFiles, AnotherUsersRecordIsNotBelieved) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give a file away";
  ASSERT_TRUE(read(R"({"version":1,"remove":true})"));
  ASSERT_EQ(::chown(path().c_str(), 65534, 65534), 0);
  auto found = find_running(scratch_.path(), kId);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().kind, ErrorKind::kCorrupt);
  EXPECT_NE(found.error().message().find("belongs to another user"), std::string::npos);
  sweep_stale(scratch_.path());
  EXPECT_TRUE(std::filesystem::exists(path()));
}

TEST_F(RunningFiles, WhatIsNoCgroupIsLeftAlone) {
  std::string group = scratch_.path() + "/layerfs-" + kId;
  std::filesystem::create_directory(group);
  std::ofstream(scratch_.path() + "/kept") << "kept";
  std::filesystem::create_symlink("../kept", group + "/cgroup.kill");
  ASSERT_TRUE(read(R"({"version":1,"cgroups":[")" + group + "\"]}"));
  sweep_stale(scratch_.path());
  EXPECT_EQ(read_file(scratch_.path() + "/kept").value_or(""), "kept");
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(RunningFiles, WhatWasWrittenIsRead) {
  RunningState state{kId, "name", 12, 34, 56, {"/sys/fs/cgroup/layerfs-" + kId}, true, 78};
  auto made = RunningFile::create(scratch_.path(), state);
  ASSERT_TRUE(made) << made.error().message();
  auto found = find_running(scratch_.path(), kId);
  ASSERT_TRUE(found && *found);
  EXPECT_TRUE((*found)->alive);
  EXPECT_EQ((*found)->state.name, "name");
  EXPECT_EQ((*found)->state.cgroups, state.cgroups);
  EXPECT_TRUE((*found)->state.remove);
}

TEST(ExitFile, SaysThatAllWasKilledUntilTheEndIsKnown) {
  ScratchDir scratch;
  EXPECT_FALSE(read_exit(scratch.path()));
  auto file = ExitFile::create(scratch.path());
  ASSERT_TRUE(file);
  auto record = read_exit(scratch.path());
  ASSERT_TRUE(record);
  EXPECT_EQ(record->status, 137);
  auto size = std::filesystem::file_size(scratch.path() + "/exit");
  struct stat st{};
  ASSERT_EQ(::stat((scratch.path() + "/exit").c_str(), &st), 0);
  EXPECT_GT(st.st_blocks, 0);  // no hole, which a full disk would not fill
  ASSERT_TRUE(file->write({3, 1'700'000'000, true}));
  EXPECT_EQ(std::filesystem::file_size(scratch.path() + "/exit"), size);  // a full disk has the place
  record = read_exit(scratch.path());
  ASSERT_TRUE(record);
  EXPECT_EQ(record->status, 3);
  EXPECT_EQ(record->finished, 1'700'000'000);
  EXPECT_TRUE(record->out_of_memory);
}

TEST(ExitFile, DamageIsNoException) {
  ScratchDir scratch;
  for (const char* text : {"", "x", "[1]", R"({"status":"three","oom":1})"}) {
    std::ofstream(scratch.path() + "/exit", std::ios::trunc) << text;
    auto record = read_exit(scratch.path());
    if (record) {
      EXPECT_EQ(record->status, 137) << text;
    }
  }
}

TEST(Labels, AnyBytesGoThere) {
  ScratchDir scratch;
  EXPECT_TRUE(read_labels(scratch.path()).empty());
  Labels labels{{"a", "b"}, {"empty", ""}, {"quote", "\"\n"}};
  ASSERT_TRUE(write_labels(scratch.path(), labels));
  EXPECT_EQ(read_labels(scratch.path()), labels);
  ASSERT_TRUE(write_labels(scratch.path(), {{"a", "\xff"}}));
  EXPECT_EQ(read_labels(scratch.path()).size(), 1U);
  std::ofstream(scratch.path() + "/labels", std::ios::trunc) << R"({"a":1,"b":"c"})";
  EXPECT_EQ(read_labels(scratch.path()), (Labels{{"b", "c"}}));
}

}  // namespace
}  // namespace layerfs::run
