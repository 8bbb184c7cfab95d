// SPDX-License-Identifier: Apache-2.0
// A disk that is full: nothing acknowledged is lost, and what is removed can be used again at once.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <variant>
#include <vector>

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
  explicit World(const std::string& directory, DeltaOptions options = {}, SyncOps* sync = nullptr) {
    DeltaTuning tuning;
    tuning.sync = sync;
    tuning.flush_period = std::chrono::hours(1);
    tuning.segment_size = 64U << 10;
    auto upper = open_delta_with(directory, options, tuning);
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

/// Files with a large xattr each: what fills a disk by log and checkpoint alone.
class MetadataFiller {
 public:
  explicit MetadataFiller(World& world) : world_(&world) {}
  /// Makes more of them, until there is no room. Gives how many, or -1: another error came.
  int fill() {
    for (int made = 0;; ++made) {
      const std::string name = std::to_string(next_);
      auto file = world_->fs->mknod(tree::kRootIno, name, S_IFREG | 0644, 0, {});
      if (!file) return file.error().code == ENOSPC ? made : -1;
      world_->fs->forget(file->ino, 1);
      ++next_;
      const auto set =
          world_->fs->setxattr(file->ino, "user.v", value_of(name), unionfs::SetXattrMode::kAny, {});
      if (set) files_[name] = file->ino;
      if (!set) return set.error().code == ENOSPC ? made : -1;
    }
  }
  /// Removes those for which `is_wanted` says so of their place in the order in which they were made.
  std::string remove(const std::function<bool(std::size_t index, std::size_t count)>& is_wanted) {
    std::vector<std::string> names;
    for (const auto& [name, ino] : files_) names.push_back(name);
    std::sort(names.begin(), names.end(),
              [](const auto& a, const auto& b) { return std::stoul(a) < std::stoul(b); });
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (!is_wanted(i, names.size())) continue;
      if (auto removed = world_->fs->unlink(tree::kRootIno, names[i], {}); !removed)
        return "remove " + names[i] + ": " + removed.error().message();
      files_.erase(names[i]);
    }
    return "";
  }
  /// A small change of one that is there.
  std::string change(const std::string& value) {
    const auto set =
        world_->fs->setxattr(files_.begin()->second, "user.after", value, unionfs::SetXattrMode::kAny, {});
    changed_ = files_.begin()->first;
    last_ = value;
    return set ? "" : "no room: " + set.error().message();
  }
  std::string check() const {
    for (const auto& [name, ino] : files_)
      if (world_->fs->getxattr(ino, "user.v").value_or("") != value_of(name)) return "lost: " + name;
    const auto changed = files_.find(changed_);
    if (changed == files_.end()) return "";
    return world_->fs->getxattr(changed->second, "user.after").value_or("") == last_ ? "" : "lost: a change";
  }
  void use(World& world) { world_ = &world; }
  std::size_t count() const { return files_.size(); }

 private:
  static std::string value_of(const std::string& name) {
    std::string value(60'000, 'v');
    value.replace(0, name.size(), name);
    return value;
  }
  World* world_;
  std::size_t next_ = 0;
  std::map<std::string, Ino> files_;
  std::string changed_;
  std::string last_;
};

/// Filled by what is in log and checkpoint alone, again and again.
std::string fill_by_metadata(const std::string& mountpoint, DeltaOptions options) {
  const std::vector<std::function<bool(std::size_t, std::size_t)>> halves = {
      [](std::size_t i, std::size_t count) { return i < count / 2; },
      [](std::size_t i, std::size_t) { return i % 2 == 0; },
      [](std::size_t i, std::size_t count) { return i > count / 2; },
      [](std::size_t i, std::size_t) { return i % 2 == 1; },
  };
  auto world = std::make_unique<World>(mountpoint + "/delta", options);
  REQUIRE_THAT(world->fs != nullptr);
  MetadataFiller filler(*world);
  REQUIRE_THAT(filler.fill() > 60);
  for (std::size_t round = 0; round < 5; ++round) {
    const std::size_t before = filler.count();
    const std::string removed = filler.remove(halves[round % halves.size()]);
    if (removed != "") return fmt::format("round {}: {}", round, removed);
    const std::size_t gone = before - filler.count();
    // At once, and not for one change alone.
    for (int i = 0; i < 20; ++i)
      if (const std::string changed = filler.change(fmt::format("{} {}", round, i)); changed != "")
        return fmt::format("round {}, change {}: {}", round, i, changed);
    if (const std::string lost = filler.check(); lost != "") return fmt::format("round {}: {}", round, lost);
    const int made = filler.fill();
    if (made < static_cast<int>(gone) / 2)
      return fmt::format("round {}: {} removed, room for {}", round, gone, made);
    if (round % 3 == 1) {
      world.reset();
      world = std::make_unique<World>(mountpoint + "/delta", options);
      REQUIRE_THAT(world->fs != nullptr);
      filler.use(*world);
    }
    if (const std::string lost = filler.check(); lost != "") return fmt::format("round {}: {}", round, lost);
  }
  return "";
}

TEST(FullDisk, OfMetadataAloneHasRoomOnceSomeIsRemoved) {
  on_small_disk("14m", [](const std::string& mountpoint) { return fill_by_metadata(mountpoint, {}); });
}

TEST(FullDisk, OfMetadataAloneHasRoomWithoutFlushesToo) {
  on_small_disk("14m", [](const std::string& mountpoint) {
    return fill_by_metadata(mountpoint, {.is_volatile = true});
  });
}

/// Flushes that take their time.
struct SlowSync final : SyncOps {
  Result<void> sync_data(int fd) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    return SyncOps::sync_data(fd);
  }
};

/// After a removal the delta makes room by itself. A change that comes meanwhile waits for it.
std::string change_while_room_is_made(const std::string& mountpoint) {
  SlowSync sync;
  World world(mountpoint + "/delta", {}, &sync);
  REQUIRE_THAT(world.fs != nullptr);
  MetadataFiller filler(world);
  REQUIRE_THAT(filler.fill() > 60);
  // No pause is known to end in the middle of it. Of these some do.
  for (int milliseconds = 3; milliseconds < 17; milliseconds += 2) {
    const std::string removed = filler.remove([](std::size_t i, std::size_t count) { return i < count / 2; });
    if (removed != "") return removed;
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    const std::string changed = filler.change(std::to_string(milliseconds));
    if (changed != "") return fmt::format("after {} ms: {}", milliseconds, changed);
    REQUIRE_THAT(filler.fill() > 0);
  }
  return filler.check();
}

TEST(FullDisk, WaitsForTheRoomThatIsBeingMade) { on_small_disk("14m", change_while_room_is_made); }

}  // namespace
}  // namespace layerfs::upper
