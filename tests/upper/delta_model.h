// SPDX-License-Identifier: Apache-2.0
// A plain model of an UpperLayer, changes made from a seed, and a text of everything that an upper says, so
// that two of them can be compared; and DeltaFixture, a delta beside its model. Shared by the delta's tests.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/tree/upper_layer.h"
#include "fs/upper/delta_open.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::test {

using tree::Ino;

/// The whole file `path`, its directory too where that is missing.
inline void write_whole(const std::string& path, std::string_view bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  const auto file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ASSERT_TRUE(file);
  ASSERT_TRUE(write_full(file->get(), as_bytes(bytes)));
}

inline std::string describe(const tree::Node& node) {
  return fmt::format(
      "kind {} content {} mode {:o} uid {} gid {} nlink {} size {} rdev {} m {}.{} c {}.{} a {}.{} parent {} "
      "object {} base {}{}",
      static_cast<int>(node.kind), static_cast<int>(node.content), node.mode, to_number(node.uid),
      to_number(node.gid), node.nlink, node.size, node.rdev, node.mtime.seconds, node.mtime.nanoseconds,
      node.ctime.seconds, node.ctime.nanoseconds, node.atime.seconds, node.atime.nanoseconds,
      to_number(node.parent), node.object.hex(), node.base_size, node.data_reaches ? " reaches" : "");
}

/// One line for each thing: what is it of -> what it is.
using Dump = std::map<std::string, std::string>;

inline Dump dump(const tree::UpperLayer& upper) {
  Dump lines;
  std::vector<Ino> inos;
  upper.for_each_changed([&](Ino ino, const tree::ChangedParts&) { return inos.push_back(ino), true; });
  for (const Ino ino : inos) {
    const auto id = to_number(ino);
    if (const auto node = upper.find_node(ino)) lines[fmt::format("node {}", id)] = describe(*node);
    upper.list_entries(ino, tree::kDirStart, [&](const tree::UpperEntryView& entry) {
      lines[fmt::format("entry {} {}", id, entry.name)] = fmt::format(
          "{} {} {}", static_cast<int>(entry.state), to_number(entry.ino), static_cast<int>(entry.kind));
      return true;
    });
    upper.list_xattrs(ino, [&](std::string_view name, tree::XattrState state, std::string_view value) {
      lines[fmt::format("xattr {} {}", id, name)] = fmt::format("{} {}", static_cast<int>(state), value);
      return true;
    });
    if (const auto bytes = upper.get_inline(ino)) lines[fmt::format("inline {}", id)] = *bytes;
    for (const tree::Extent& extent : upper.extents(ino))
      lines[fmt::format("extent {} {}", id, extent.offset)] = fmt::format("{}", extent.length);
  }
  return lines;
}

/// What an upper holds, in the plainest containers; extents byte by byte.
class Model {
 public:
  void apply(const tree::ChangeSet& set) {
    for (const tree::Change& change : set.changes)
      std::visit([this](const auto& one) { (*this)(one); }, change);
  }

  Dump dump() const {
    Dump lines;
    std::set<std::uint64_t> known;
    for (const auto& [id, node] : nodes_)
      lines[fmt::format("node {}", id)] = describe(node), known.insert(id);
    for (const auto& [key, entry] : entries_) {
      known.insert(key.first);
      lines[fmt::format("entry {} {}", key.first, key.second)] = fmt::format(
          "{} {} {}", static_cast<int>(entry.state), to_number(entry.ino), static_cast<int>(entry.kind));
    }
    for (const auto& [key, value] : xattrs_) {
      known.insert(key.first);
      const auto state = value ? tree::XattrState::kPresent : tree::XattrState::kTombstone;
      lines[fmt::format("xattr {} {}", key.first, key.second)] =
          fmt::format("{} {}", static_cast<int>(state), value.value_or(""));
    }
    // An inode of which there is nothing else is not among the changed ones.
    for (const auto& [id, bytes] : inlines_)
      if (known.contains(id)) lines[fmt::format("inline {}", id)] = bytes;
    for (const auto& [id, bytes] : extents_) {
      if (!known.contains(id)) continue;
      for (auto at = bytes.begin(); at != bytes.end();) {
        const std::uint64_t offset = *at;
        std::uint64_t end = offset;
        while (at != bytes.end() && *at == end) ++at, ++end;
        lines[fmt::format("extent {} {}", id, offset)] = fmt::format("{}", end - offset);
      }
    }
    return lines;
  }

 private:
  using Named = std::pair<std::uint64_t, std::string>;
  void operator()(const tree::PutNode& one) { nodes_[to_number(one.ino)] = one.node; }
  void operator()(const tree::EraseNode& one) {
    const auto id = to_number(one.ino);
    nodes_.erase(id);
    inlines_.erase(id);
    extents_.erase(id);
    std::erase_if(xattrs_, [&](const auto& xattr) { return xattr.first.first == id; });
  }
  void operator()(const tree::PutEntry& one) {
    entries_[{to_number(one.dir), one.name}] = {tree::EntryState::kPresent, one.ino, one.kind};
  }
  void operator()(const tree::PutTombstone& one) {
    entries_[{to_number(one.dir), one.name}] = {tree::EntryState::kTombstone, Ino{0},
                                                tree::NodeKind::kRegular};
  }
  void operator()(const tree::EraseEntry& one) { entries_.erase({to_number(one.dir), one.name}); }
  void operator()(const tree::PutXattr& one) { xattrs_[{to_number(one.ino), one.name}] = one.value; }
  void operator()(const tree::PutXattrTombstone& one) {
    xattrs_[{to_number(one.ino), one.name}] = std::nullopt;
  }
  void operator()(const tree::EraseXattr& one) { xattrs_.erase({to_number(one.ino), one.name}); }
  void operator()(const tree::PutInline& one) { inlines_[to_number(one.ino)] = one.bytes; }
  void operator()(const tree::AddExtent& one) {
    for (std::uint64_t i = 0; i < one.length; ++i) extents_[to_number(one.ino)].insert(one.offset + i);
  }
  void operator()(const tree::TrimExtents& one) {
    auto& bytes = extents_[to_number(one.ino)];
    bytes.erase(bytes.lower_bound(one.size), bytes.end());
  }

  std::map<std::uint64_t, tree::Node> nodes_;
  std::map<Named, tree::UpperEntry> entries_;
  std::map<Named, std::optional<std::string>> xattrs_;
  std::map<std::uint64_t, std::string> inlines_;
  std::map<std::uint64_t, std::set<std::uint64_t>> extents_;
};

/// Change sets from a seed: number k of a seed is always the same. Inodes lie in [base, base + 24), so that
/// several threads can have inodes of their own.
class ChangeMaker {
 public:
  ChangeMaker(std::uint64_t seed, std::uint64_t base) : random_(seed), base_(base) {}

  /// 1 to 5 changes, the last of which puts `counter` into the xattr "user.counter" of inode `base`.
  tree::ChangeSet next(std::uint64_t counter) {
    tree::ChangeSet set;
    set.request = counter * 2;
    const std::uint64_t count = pick(5);
    for (std::uint64_t i = 0; i < count; ++i) set.changes.push_back(change());
    set.changes.push_back(tree::PutXattr{Ino{base_}, "user.counter", std::to_string(counter)});
    return set;
  }

  static std::uint64_t counter_of(const tree::UpperLayer& upper, std::uint64_t base) {
    std::string value;
    if (upper.find_xattr(Ino{base}, "user.counter", value) != tree::XattrState::kPresent) return 0;
    return std::stoull(value);
  }

 private:
  std::uint64_t pick(std::uint64_t below) { return random_() % below; }
  Ino ino() { return Ino{base_ + 1 + pick(23)}; }
  std::string name() {
    static const std::vector<std::string> names = {"a",        "b",
                                                   "lib",      "usr",
                                                   "x y",      ".wh.z",
                                                   "\xc3\xa4", std::string(255, 'n'),
                                                   "user.k",   "security.capability",
                                                   "user.long"};
    return names[pick(names.size())];
  }
  std::string bytes(std::uint64_t below) {
    return std::string(pick(below), static_cast<char>('a' + pick(26)));
  }

  tree::Node node() {
    tree::Node made;
    made.kind = static_cast<tree::NodeKind>(1 + pick(7));
    made.content = static_cast<tree::ContentKind>(pick(4));
    made.mode = static_cast<std::uint16_t>(pick(010000));
    made.uid = tree::Uid{static_cast<std::uint32_t>(random_())};
    made.gid = tree::Gid{static_cast<std::uint32_t>(random_())};
    made.nlink = static_cast<std::uint32_t>(pick(4));
    made.size = pick(2) == 0 ? 0 : random_() >> 1;
    made.rdev = pick(3) == 0 ? random_() : 0;
    for (tree::Time* time : {&made.mtime, &made.ctime, &made.atime})
      *time = {static_cast<std::int64_t>(random_()), static_cast<std::uint32_t>(pick(1'000'000'000))};
    made.parent = Ino{pick(3) == 0 ? random_() : 0};
    if (pick(2) == 0) made.object.bytes.fill(static_cast<std::uint8_t>(1 + pick(255)));
    made.base_size = pick(2) == 0 ? 0 : random_();
    return made;
  }

  tree::Change change() {
    switch (pick(14)) {
      case 0:
      case 1:
      case 2: return tree::PutNode{ino(), node()};
      case 3: return tree::EraseNode{ino()};
      case 4:
      case 5: return tree::PutEntry{ino(), name(), ino(), static_cast<tree::NodeKind>(1 + pick(7))};
      case 6: return tree::PutTombstone{ino(), name()};
      case 7: return tree::EraseEntry{ino(), name()};
      case 8: return tree::PutXattr{ino(), name(), bytes(300)};
      case 9: return tree::PutXattrTombstone{ino(), name()};
      case 10: return tree::EraseXattr{ino(), name()};
      case 11: return tree::PutInline{ino(), bytes(100)};
      case 12: return tree::AddExtent{ino(), pick(200), pick(50)};
      default: return tree::TrimExtents{ino(), pick(200)};
    }
  }

  std::mt19937_64 random_;
  std::uint64_t base_;
};

/// Where to write record `counter` (from 1) of a file of records of 8 bytes: in a shared file for the first
/// kSharedRecords of them, then in one of its own, with what was there before. Sets the content of `node`.
inline constexpr std::uint64_t kSharedRecords = 40;
inline Result<tree::DataPlace> place_of_record(tree::UpperLayer& upper, tree::Ino ino, std::uint64_t counter,
                                               tree::Node& node) {
  node.content = counter <= kSharedRecords ? tree::ContentKind::kShared : tree::ContentKind::kData;
  const auto before = upper.find_node(ino);
  const bool is_there = before && before->content == tree::ContentKind::kShared;
  if (node.content == tree::ContentKind::kShared)
    return is_there ? upper.open_shared(ino) : upper.create_shared(ino);
  tree::DataPlace own;
  LAYERFS_ASSIGN(own.file, upper.create_data(ino));
  if (!is_there) return own;
  LAYERFS_ASSIGN(const tree::DataPlace old, upper.open_shared(ino));
  std::string bytes((counter - 1) * 8, '\0');
  LAYERFS_TRY(pread_full(old.fd(), std::as_writable_bytes(std::span(bytes)), old.offset));
  LAYERFS_TRY(pwrite_full(own.fd(), as_bytes(bytes), 0));
  return own;
}

/// The place of a file that has one.
inline Result<tree::DataPlace> find_place(const tree::UpperLayer& upper, tree::Ino ino) {
  const auto node = upper.find_node(ino);
  if (node && node->content == tree::ContentKind::kShared) return upper.open_shared(ino);
  LAYERFS_ASSIGN(auto file, upper.open_data(ino));
  return tree::DataPlace{std::move(file)};
}

inline upper::BootId boot_of(std::uint8_t number) {
  upper::BootId id{};
  id.fill(number);
  return id;
}

/// A delta that flushes nothing by itself, and the model of what was done to it.
class DeltaFixture : public ::testing::Test {
 protected:
  explicit DeltaFixture(std::uint64_t seed) : maker_(seed, 500) {
    tuning_.segment_size = upper::kMinSegmentSize;
    tuning_.flush_period = std::chrono::hours(1);
  }
  std::unique_ptr<tree::UpperLayer> open(upper::DeltaOptions options = {}) {
    auto opened = upper::open_delta_with(path_, options, tuning_);
    EXPECT_TRUE(opened) << opened.error().message();
    return opened ? std::move(*opened) : nullptr;
  }
  void put(tree::UpperLayer& upper, const tree::ChangeSet& set) {
    ASSERT_TRUE(upper.apply(set));
    model_.apply(set);
  }
  void change(tree::UpperLayer& upper, int count) {
    for (int i = 0; i < count; ++i) put(upper, maker_.next(++counter_));
  }

  ScratchDir dir_;
  const std::string path_ = dir_ / "delta";
  upper::DeltaTuning tuning_;
  ChangeMaker maker_;
  Model model_;
  std::uint64_t counter_ = 0;
};

}  // namespace layerfs::test
