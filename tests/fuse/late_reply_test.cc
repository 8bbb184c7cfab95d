// SPDX-License-Identifier: Apache-2.0
// The kernel keeps attributes for ever, so a reply that was made before a change and arrives after it must
// not bring the old ones back. A reply is held up here between the look at the upper and its way to the
// kernel, on a real mount in this process. Skipped where nothing may be mounted.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <thread>

#include "fs/fuse/attribute_readers.h"
#include "fs/fuse/fuse_server.h"
#include "tests/base/scratch_dir.h"
#include "tests/union/slow_upper.h"

namespace layerfs::fuse {
namespace {

using unionfs::HoldUp;
using unionfs::SlowUpper;

class LateReply : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0 || ::access("/dev/fuse", R_OK | W_OK) != 0)
      GTEST_SKIP() << "needs root and /dev/fuse";
    auto made =
        unionfs::UnionFs::make(std::make_shared<tree::MemoryTree>(), std::make_shared<tree::MemoryBlobs>(),
                               std::make_shared<SlowUpper>(hold_), {});
    ASSERT_TRUE(made) << made.error().message();
    fs_ = std::move(*made);
    mountpoint_ = scratch_ / "mnt";
    std::filesystem::create_directory(mountpoint_);
    FuseOptions options;
    options.threads = 4;
    auto server = FuseServer::mount(mountpoint_, options, *fs_);
    if (!server && server.error().code == EPERM) GTEST_SKIP() << server.error().message();
    ASSERT_TRUE(server) << server.error().message();
    server_ = std::move(*server);
    serving_ = std::thread([this] { (void)server_->serve(); });
    ASSERT_EQ(::mkdir(at("dir").c_str(), 0755), 0);
    ASSERT_EQ(::mkdir(at("dir/sub").c_str(), 0755), 0);
    directory_ = ::open(at("dir").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT_GE(directory_, 0);
  }
  void TearDown() override {
    if (directory_ >= 0) ::close(directory_);
    if (server_) server_->unmount();
    if (serving_.joinable()) serving_.join();
  }
  std::string at(const std::string& name) const { return mountpoint_ + "/" + name; }
  struct statx look(int flags = 0) const {
    struct statx found{};
    EXPECT_EQ(::statx(directory_, "", AT_EMPTY_PATH | flags, STATX_BASIC_STATS, &found), 0);
    return found;
  }
  /// Lets `ask` be answered with attributes of "dir" from before `change`, and the answer come after it.
  void ask_before_and_hear_after(int look_held_up, const std::function<void()>& ask,
                                 const std::function<void()>& change) {
    struct stat info{};
    ASSERT_EQ(::fstat(directory_, &info), 0);
    hold_.arm(tree::Ino{info.st_ino}, look_held_up);
    std::thread asking(ask);
    bool held = hold_.wait_until_held();
    if (held) change();
    hold_.let_go();
    asking.join();
    ASSERT_TRUE(held);
    struct statx kept = look();
    struct statx now = look(AT_STATX_FORCE_SYNC);
    EXPECT_EQ(kept.stx_nlink, now.stx_nlink);
    EXPECT_EQ(kept.stx_mode, now.stx_mode);
    EXPECT_EQ(kept.stx_mtime.tv_nsec, now.stx_mtime.tv_nsec);
    EXPECT_EQ(kept.stx_ctime.tv_nsec, now.stx_ctime.tv_nsec);
  }
  std::function<void()> stat_it() {
    return [this] { look(AT_STATX_FORCE_SYNC); };
  }
  std::function<void()> list_its_parent() {
    return [this] {
      ::rmdir(at("new").c_str());  // or the kernel would have the listing
      ::mkdir(at("new").c_str(), 0755);
      DIR* listing = ::opendir(mountpoint_.c_str());
      while (::readdir(listing) != nullptr) {
      }
      ::closedir(listing);
    };
  }

  ScratchDir scratch_;
  std::string mountpoint_;
  HoldUp hold_;
  std::unique_ptr<unionfs::UnionFs> fs_;
  std::unique_ptr<FuseServer> server_;
  std::thread serving_;
  int directory_ = -1;
};

TEST(AttributeReaders, WhoChangesIsTheOnlyOneWhoseRepliesAreNotWaitedFor) {
  AttributeReaders readers;
  tree::Ino directory{7};
  EXPECT_FALSE(readers.may_be_late(directory, 1));
  readers.note(directory, 1);
  EXPECT_FALSE(readers.may_be_late(directory, 1));
  EXPECT_TRUE(readers.may_be_late(directory, 2));
  EXPECT_TRUE(readers.may_be_late(directory, 0));
  readers.note(directory, 2);
  readers.note(directory, 1);
  EXPECT_TRUE(readers.may_be_late(directory, 1));
}

TEST(AttributeReaders, ThreadsThatAreNotKnownAreNotTakenForOne) {
  AttributeReaders readers;
  readers.note(tree::Ino{7}, 0);
  EXPECT_TRUE(readers.may_be_late(tree::Ino{7}, 0));
  AttributeReaders next;
  next.note_all();
  EXPECT_TRUE(next.may_be_late(tree::Ino{8}, 1));
}

TEST_F(LateReply, EveryChangeOfADirectoryOutlastsIt) {
  const std::vector<std::function<int()>> changes{
      [&] { return ::mkdirat(directory_, "made", 0755); },
      [&] { return ::unlinkat(directory_, "made", AT_REMOVEDIR); },
      [&] { return ::mknodat(directory_, "file", S_IFREG | 0644, 0); },
      [&] { return ::linkat(directory_, "file", directory_, "second", 0); },
      [&] { return ::unlinkat(directory_, "second", 0); },
      [&] { return ::symlinkat("x", directory_, "link"); },
      [&] { return ::renameat(directory_, "sub", AT_FDCWD, at("sub").c_str()); },
      [&] { return ::renameat(AT_FDCWD, at("sub").c_str(), directory_, "sub"); },
      [&] { return ::fchmod(directory_, 0700); },
      [&] { return ::fsetxattr(directory_, "user.x", "1", 1, 0); },
      [&] { return ::fremovexattr(directory_, "user.x"); },
  };
  for (std::size_t number = 0; number < changes.size(); ++number) {
    SCOPED_TRACE(number);
    ::usleep(20'000);  // times that differ
    ask_before_and_hear_after(1 + static_cast<int>(number % 2), stat_it(),
                              [&] { EXPECT_EQ(changes[number](), 0); });
  }
}

TEST_F(LateReply, ALookAtADirectoryIsNotTakenForALaterOne) {
  ask_before_and_hear_after(1, stat_it(), [&] { EXPECT_EQ(::mkdirat(directory_, "made", 0755), 0); });
}

TEST_F(LateReply, AListingOfItsParentDoesNotEither) {
  for (int look_held_up : {1, 2}) {
    SCOPED_TRACE(look_held_up);
    std::string name = "made" + std::to_string(look_held_up);
    ask_before_and_hear_after(look_held_up, list_its_parent(),
                              [&] { EXPECT_EQ(::mkdirat(directory_, name.c_str(), 0755), 0); });
  }
}

}  // namespace
}  // namespace layerfs::fuse
