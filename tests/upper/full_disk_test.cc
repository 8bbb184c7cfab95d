// SPDX-License-Identifier: Apache-2.0
// A disk that is full: nothing acknowledged is lost, and what is removed can be used again at once.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <variant>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/tree/memory_blobs.h"
#include "fs/tree/memory_tree.h"
#include "fs/union/union_fs.h"
#include "fs/upper/delta_open.h"
#include "tests/base/scratch_dir.h"
#include "tests/upper/delta_model.h"
#include "tests/upper/small_disk.h"

namespace layerfs::upper {
namespace {

using tree::ChangeSet;
using tree::Ino;

void on_small_disk(const std::string& size, const std::function<std::string(const std::string&)>& body) {
  const ScratchDir dir;
  const std::string mountpoint = dir / "small";
  ASSERT_TRUE(make_dir(mountpoint, 0700));
  const std::string answer = test::with_small_disk(mountpoint, size, body);
  if (answer.starts_with("skip")) GTEST_SKIP() << answer;
  EXPECT_EQ(answer, "");
}

/// The disk fills up under a delta, is cleared by removing files through it, then gets room.
std::string fill_and_clear(const std::string& mountpoint) {
  DeltaTuning tuning;
  tuning.segment_size = 64U << 10;
  tuning.max_segments = 32;
  tuning.retry_period = std::chrono::milliseconds(5);
  const std::string path = mountpoint + "/delta";
  const std::string ballast_path = mountpoint + "/ballast";
  test::ChangeMaker maker(33, 500);
  test::Model model;
  std::uint64_t counter = 0;
  auto upper = open_delta_with(path, {}, tuning);
  REQUIRE_THAT(upper);
  auto file = (*upper)->create_data(Ino{900});
  REQUIRE_THAT(file);
  const std::string megabyte(1U << 20, 'x');
  REQUIRE_THAT(pwrite_full((*file)->get(), as_bytes(megabyte), 0));
  file->reset();
  tree::Node node;
  node.content = tree::ContentKind::kData;
  node.size = megabyte.size();
  const ChangeSet put_file{{tree::PutNode{Ino{900}, node}}};
  REQUIRE_THAT((*upper)->apply(put_file));
  model.apply(put_file);

  auto ballast = open_file(ballast_path, O_WRONLY | O_CREAT, 0600);
  REQUIRE_THAT(ballast);
  const std::string page(4096, 'b');
  while (write(ballast->get(), page.data(), page.size()) > 0) continue;
  int error = 0;
  while (error == 0) {
    test::ChangeMaker before = maker;
    ChangeSet set = maker.next(counter + 1);
    std::erase_if(set.changes, [](const tree::Change& one) {  // nothing that removes: that may go on
      return std::holds_alternative<tree::EraseNode>(one) || std::holds_alternative<tree::EraseEntry>(one) ||
             std::holds_alternative<tree::PutTombstone>(one) ||
             std::holds_alternative<tree::TrimExtents>(one);
    });
    // Ever new names, so that the checkpoint grows as well.
    set.changes.push_back(tree::PutXattr{Ino{5000 + counter}, "user.big", std::string(300, 'v')});
    if (auto applied = (*upper)->apply(set); !applied) {
      error = applied.error().code;
      maker = before;
      break;
    }
    ++counter;
    model.apply(set);
    REQUIRE_THAT(counter < 1'000'000);
  }
  REQUIRE_THAT(error == ENOSPC);
  REQUIRE_THAT(counter > 10);
  REQUIRE_THAT(test::dump(**upper) == model.dump());
  REQUIRE_THAT(test::dump(**open_delta_with(path, {.read_only = true}, tuning)) == model.dump());

  // Removing a file goes through, and its space lets everything go on.
  const ChangeSet erase{{tree::EraseNode{Ino{900}}}};
  REQUIRE_THAT((*upper)->apply(erase));
  model.apply(erase);
  // The file itself goes when a checkpoint no longer names it.
  const auto file_is_there = [&] { return access((path + "/data/0e/900").c_str(), F_OK) == 0; };
  bool goes_on = false;
  for (int i = 0; i < 4000 && (!goes_on || file_is_there()); ++i) {
    const ChangeSet set{{tree::PutXattr{Ino{500}, "user.after", "x"}}};
    goes_on = (*upper)->apply(set).has_value();
    if (goes_on) model.apply(set);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  REQUIRE_THAT(goes_on);
  REQUIRE_THAT(!file_is_there());
  REQUIRE_THAT(test::dump(**upper) == model.dump());

  // Full again, and then the process ends without a close: another opens it on the full disk.
  while (write(ballast->get(), page.data(), page.size()) > 0) continue;
  static_cast<void>(upper->release());
  REQUIRE_THAT(test::dump(**open_delta_with(path, {.read_only = true}, tuning)) == model.dump());
  return "";
}

TEST(FullDisk, LosesNothingAndCanBeCleared) { on_small_disk("6m", fill_and_clear); }

/// A file system over a delta that flushes nothing by itself in the time of a test.
struct World {
  explicit World(const std::string& directory) {
    DeltaTuning tuning;
    tuning.flush_period = std::chrono::hours(1);
    tuning.segment_size = 64U << 10;
    auto upper = open_delta_with(directory, {}, tuning);
    if (!upper) return;
    auto made = unionfs::UnionFs::make(std::make_shared<tree::MemoryTree>(),
                                       std::make_shared<tree::MemoryBlobs>(), std::move(*upper), {});
    if (made) fs = std::move(*made);
  }
  Ino create(const std::string& name) {
    const auto made = fs->mknod(tree::kRootIno, name, S_IFREG | 0644, 0, {});
    return made ? made->ino : Ino{0};
  }
  bool remove(const std::string& name, Ino ino) {
    const bool removed = fs->unlink(tree::kRootIno, name, {}).has_value();
    fs->forget(ino, 1);
    return removed;
  }
  /// As many bytes as can be written to it, at most `most`.
  std::uint64_t fill(Ino ino, std::uint64_t most) {
    const std::string piece(64U << 10, 'x');
    std::uint64_t done = 0;
    while (done < most) {
      const auto count =
          fs->write(ino, done, as_bytes(std::string_view(piece).substr(0, most - done)), {}, {});
      if (!count) break;
      done += *count;
    }
    return done;
  }
  std::unique_ptr<unionfs::UnionFs> fs;
};

std::string remove_and_write_again(const std::string& mountpoint) {
  World world(mountpoint + "/delta");
  REQUIRE_THAT(world.fs != nullptr);
  const Ino all = world.create("all");
  const std::uint64_t room = world.fill(all, UINT64_MAX);
  REQUIRE_THAT(room > (4U << 20));
  for (int round = 0; round < 5; ++round) {
    const std::string name = "again" + std::to_string(round);
    if (round == 0) REQUIRE_THAT(world.remove("all", all));
    const Ino again = world.create(name);
    REQUIRE_THAT(again != Ino{0});
    REQUIRE_THAT(world.fill(again, room * 3 / 4) == room * 3 / 4);
    REQUIRE_THAT(world.remove(name, again));
  }
  // What copies, grows and allocates finds the room too.
  const Ino from = world.create("from");
  REQUIRE_THAT(world.fill(from, room / 4) == room / 4);
  for (int round = 0; round < 5; ++round) {
    const Ino copy = world.create("copy");
    REQUIRE_THAT(world.fs->fallocate(copy, 0, 0, room / 2, {}));
    REQUIRE_THAT(world.fs->copy_file_range(from, 0, copy, 0, room / 4, {}).value_or(0) == room / 4);
    REQUIRE_THAT(world.remove("copy", copy));
  }
  return "";
}

TEST(FullDisk, HasTheRoomOfARemovedFileAtOnce) { on_small_disk("12m", remove_and_write_again); }

std::string allocate_and_write(const std::string& mountpoint) {
  World world(mountpoint + "/delta");
  REQUIRE_THAT(world.fs != nullptr);
  const Ino probe = world.create("probe");
  const std::uint64_t room = world.fill(probe, UINT64_MAX);
  REQUIRE_THAT(world.remove("probe", probe));
  for (int round = 0; round < 4; ++round) {
    // Allocated beyond the end, so that the size says nothing of it; then more than there is.
    const Ino reserved = world.create("reserved");
    REQUIRE_THAT(world.fs->fallocate(reserved, FALLOC_FL_KEEP_SIZE, 0, room * 3 / 4, {}));
    REQUIRE_THAT(world.remove("reserved", reserved));
    const Ino written = world.create("written");
    REQUIRE_THAT(world.fill(written, room / 2) == room / 2);
    REQUIRE_THAT(world.remove("written", written));
    const Ino failed = world.create("failed");
    const auto allocated = world.fs->fallocate(failed, 0, 0, room * 4, {});
    REQUIRE_THAT(!allocated && allocated.error().code == ENOSPC);
    // It is there still.
    const Ino beside = world.create("beside");
    REQUIRE_THAT(world.fill(beside, room / 2) == room / 2);
    REQUIRE_THAT(world.remove("beside", beside));
    REQUIRE_THAT(world.remove("failed", failed));
  }
  return "";
}

TEST(FullDisk, HasTheRoomOfAnAllocationAtOnce) { on_small_disk("12m", allocate_and_write); }

/// Filled by what is in log and checkpoint alone.
std::string fill_by_metadata(const std::string& mountpoint) {
  const std::string value(60'000, 'v');
  std::vector<Ino> made;
  {
    World world(mountpoint + "/delta");
    REQUIRE_THAT(world.fs != nullptr);
    int error = 0;
    while (error == 0) {
      const std::string name = std::to_string(made.size());
      auto file = world.fs->mknod(tree::kRootIno, name, S_IFREG | 0644, 0, {});
      if (!file) error = file.error().code;
      if (error != 0) break;
      world.fs->forget(file->ino, 1);
      made.push_back(file->ino);
      auto set = world.fs->setxattr(file->ino, "user.v", value, unionfs::SetXattrMode::kAny, {});
      if (!set) error = set.error().code;
    }
    REQUIRE_THAT(error == ENOSPC);
    REQUIRE_THAT(made.size() > 50);
    for (std::size_t i = 0; i < made.size() / 2; ++i)
      REQUIRE_THAT(world.fs->unlink(tree::kRootIno, std::to_string(i), {}));
    // Where log and checkpoint have taken all of the disk, a new checkpoint has to come as far as to give some
    // of them back: that is not always at once.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
      const auto after =
          world.fs->setxattr(made[made.size() - 2], "user.after", "x", unionfs::SetXattrMode::kAny, {});
      if (after) break;
      if (std::chrono::steady_clock::now() > end) return "no room: " + after.error().message();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  World world(mountpoint + "/delta");
  REQUIRE_THAT(world.fs != nullptr);
  REQUIRE_THAT(world.fs->getxattr(made[made.size() - 2], "user.after").value_or("") == "x");
  for (std::size_t i = made.size() / 2; i + 1 < made.size(); ++i)
    REQUIRE_THAT(world.fs->getxattr(made[i], "user.v").value_or("") == value);
  return "";
}

// TODO(bug): it fails where log and checkpoint share the disk so that no new checkpoint fits beside the old one.
TEST(FullDisk, DISABLED_OfMetadataAloneHasRoomSoonOnceSomeIsRemoved) {
  on_small_disk("24m", fill_by_metadata);
}

}  // namespace
}  // namespace layerfs::upper
