// SPDX-License-Identifier: Apache-2.0
// What must wait for what (LOCKS.md): one call is held up in the middle, and the other must not be done
// before it.
#include <atomic>
#include <functional>
#include <thread>

#include "tests/union/slow_upper.h"

namespace layerfs::unionfs {
namespace {

class Order : public testing::Test {
 protected:
  Order() {
    fs_ =
        UnionFs::make(std::make_shared<tree::MemoryTree>(), std::make_shared<tree::MemoryBlobs>(), upper_, {})
            .value();
  }
  Ino make_dir(Ino parent, const char* name) { return fs_->mkdir(parent, name, 0755, {}).value().ino; }
  Ino make_file(Ino parent, const char* name, const std::string& bytes) {
    Ino made = fs_->mknod(parent, name, S_IFREG | 0644, 0, {}).value().ino;
    EXPECT_TRUE(fs_->write(made, 0, as_bytes(bytes), {}, {}));
    return made;
  }
  /// Runs `first` until its `look`th look at `at`, then `second`, which must wait for it.
  void expect_in_order(Ino at, int look, const std::function<void()>& first,
                       const std::function<void()>& second) {
    hold_.arm(at, look);
    std::thread one(first);
    ASSERT_TRUE(hold_.wait_until_held());
    std::atomic<bool> is_done = false;
    std::thread other([&] {
      second();
      is_done = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_FALSE(is_done);
    hold_.let_go();
    one.join();
    other.join();
  }

  HoldUp hold_;
  std::shared_ptr<SlowUpper> upper_ = std::make_shared<SlowUpper>(hold_);
  std::unique_ptr<UnionFs> fs_;
};

TEST_F(Order, WhatALookupFoundIsNotErasedBeforeItIsCounted) {
  Ino file = make_file(tree::kRootIno, "f", "bytes");
  fs_->forget(file, 1);
  Result<Entry> found;
  expect_in_order(
      file, 1, [&] { found = fs_->lookup(tree::kRootIno, "f"); },
      [&] { EXPECT_TRUE(fs_->unlink(tree::kRootIno, "f", {})); });
  ASSERT_TRUE(found);
  EXPECT_EQ(fs_->getattr(file)->nlink, 0U);
  fs_->forget(file, 1);
  EXPECT_FALSE(fs_->getattr(file));
}

TEST_F(Order, AReadOfAPlaceIsDoneBeforeTheFileOutgrowsIt) {
  Ino file = make_file(tree::kRootIno, "f", "bytes");
  std::string read(5, '#');
  expect_in_order(
      file, 2, [&] { EXPECT_TRUE(fs_->read(file, 0, std::as_writable_bytes(std::span(read)))); },
      [&] { EXPECT_TRUE(fs_->write(file, 100'000, as_bytes(std::string("x")), {}, {})); });
  EXPECT_EQ(read, "bytes");
}

// Each alone is fine; both would be a ring that nothing leads to.
TEST_F(Order, TwoMovesOfDirectoriesLookForLoopsOneAfterTheOther) {
  Ino p = make_dir(tree::kRootIno, "p");
  Ino q = make_dir(tree::kRootIno, "q");
  Ino a = make_dir(p, "a");
  Ino b = make_dir(q, "b");
  Ino d = make_dir(a, "d");
  Ino c = make_dir(b, "c");
  Result<void> first;
  Result<void> second;
  expect_in_order(
      b, 1, [&] { first = fs_->rename(p, "a", c, "x", 0, {}); },
      [&] { second = fs_->rename(q, "b", d, "y", 0, {}); });
  EXPECT_TRUE(first);
  EXPECT_EQ(code(second), EINVAL);
}

}  // namespace
}  // namespace layerfs::unionfs
