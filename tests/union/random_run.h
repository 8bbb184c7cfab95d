// SPDX-License-Identifier: Apache-2.0
// RandomRun: one sequence of random operations, done on a UnionFs and on the ReferenceModel, every answer
// compared, and now and then everything there is. An operation is five numbers, whose meaning does not depend
// on what went before, so that a failing sequence can be shortened by leaving operations out. One file,
// though a long one: an operation is a row of LAYERFS_OPS and the function that does it to both sides, and
// neither says anything without the other.
//
// (1) Paths are made of five names and at most three levels deep, so that operations meet often.
// (2) Slots hold files as open descriptors do: by number, with a lookup of their own, unlinked or not.
#pragma once

#include <fmt/format.h>

#include <array>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/tree/memory_blobs.h"
#include "fs/tree/memory_tree.h"
#include "fs/union/union_fs.h"
#include "tests/union/reference_model.h"

namespace layerfs::unionfs::model {

// clang-format off: it never comes to rest here
// The kinds of operations, weighted as a busy tree is: names and bytes change more often than the rest.
// clang-format off
#define LAYERFS_OPS(X)                                                                  \
  X(mkdir, 8) X(mknod, 8) X(special, 3) X(symlink, 4) X(tmpfile, 1)                     \
  X(unlink, 9) X(rmdir, 5) X(rename, 10) X(link, 6) X(link_slot, 2)                     \
  X(write, 12) X(truncate, 5) X(fallocate, 4) X(copy_range, 5) X(read, 6) X(lseek, 4)   \
  X(chmod, 4) X(chown, 3) X(utimens, 2) X(setxattr, 6) X(removexattr, 3)                \
  X(open, 5) X(close, 3) X(readdir, 3) X(remount, 1) X(compare, 1)
// clang-format on

enum class OpKind : std::uint32_t {
#define LAYERFS_X(name, weight) name,
  LAYERFS_OPS(LAYERFS_X)
#undef LAYERFS_X
};

struct Op {
  OpKind kind = OpKind::compare;
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
};

inline std::string to_text(const Op& op) {
  static constexpr const char* kNames[] = {
#define LAYERFS_X(name, weight) #name,
      LAYERFS_OPS(LAYERFS_X)
#undef LAYERFS_X
  };
  return fmt::format("{{OpKind::{}, {}, {}, {}, {}}},", kNames[static_cast<std::uint32_t>(op.kind)], op.a,
                     op.b, op.c, op.d);
}

inline std::vector<Op> make_ops(std::mt19937_64& random, std::size_t count) {
  static constexpr double kWeights[] = {
#define LAYERFS_X(name, weight) weight,
      LAYERFS_OPS(LAYERFS_X)
#undef LAYERFS_X
  };
  std::discrete_distribution<std::uint32_t> kinds(std::begin(kWeights), std::end(kWeights));
  std::vector<Op> ops(count);
  auto number = [&] { return static_cast<std::uint32_t>(random()) & 0xFFFFF; };
  for (Op& op : ops) op = {static_cast<OpKind>(kinds(random)), number(), number(), number(), number()};
  return ops;
}

inline std::vector<std::string> path_of(std::uint32_t number) {
  static const char* const kNames[] = {"a", "b", "c", "d", "e"};
  std::vector<std::string> path;
  std::uint32_t depth = number % 6;  // 1, 1, 2, 2, 2, 3
  number /= 6;
  for (std::uint32_t i = 0; i < (depth < 2 ? 1U : depth < 5 ? 2U : 3U); ++i, number /= 5)
    path.emplace_back(kNames[number % 5]);
  return path;
}

inline std::string bytes_of(std::uint32_t seed, std::size_t size) {
  std::string bytes(size, '\0');
  std::minstd_rand random(seed + 1);
  for (std::size_t i = 0; i < size; i += 16)  // sparse in runs, so that holes and zeros are met too
    if (random() % 4 != 0)
      for (std::size_t j = i; j < std::min(i + 16, size); ++j)
        bytes[j] = static_cast<char>('A' + random() % 50);
  return bytes;
}

/// ACLs to set: one that says more than mode bits, one that does not, a mask narrower than the rest.
inline std::string acl_of(std::uint32_t number) {
  PlainAcl acl{.owner = 7, .group = 5, .other = 1, .named = {}, .mask = {}};
  if (number % 3 == 0) acl = {.owner = 6, .group = 4, .other = 4, .named = 6, .mask = 6};
  if (number % 3 == 1) acl = {.owner = 7, .group = 7, .other = 0, .named = 7, .mask = 1};
  return acl.bytes();
}

/// A lower tree, and a model of the same.
inline void make_lower(std::mt19937_64& random, tree::MemoryTree& lower, tree::MemoryBlobs& blobs, Ino top,
                       ReferenceModel& model, const NodePtr& model_top) {
  std::vector<std::pair<Ino, NodePtr>> dirs{{top, model_top}};
  std::vector<std::pair<Ino, NodePtr>> files;
  auto number = [&](std::uint64_t below) { return static_cast<std::uint32_t>(random() % below); };
  for (int i = 0; i < 40; ++i) {
    auto [dir, model_dir] = dirs[number(dirs.size())];
    std::string name(1, static_cast<char>('a' + number(5)));
    Where where{model_dir, name};
    if (model.find(where)) continue;
    Node node;
    node.mtime = node.ctime = node.atime = {1000 + i, 5};
    node.uid = Uid{number(3)};
    node.gid = Gid{number(3)};
    node.mode = static_cast<std::uint16_t>(number(4) == 0 ? 06755 : 0644);
    std::string bytes;
    std::uint32_t what = number(10);
    if (what == 0 && !files.empty()) {
      auto [ino, file] = files[number(files.size())];
      lower.add_link(dir, name, ino);
      model.link(file, where);
      file->ctime = {{1000, 5}, {1000 + i, 5}};
      continue;
    }
    node.kind = what < 4   ? NodeKind::kDirectory
                : what < 8 ? NodeKind::kRegular
                : what < 9 ? NodeKind::kSymlink
                           : NodeKind::kCharDevice;
    if (node.kind == NodeKind::kCharDevice) node.rdev = 0x103;
    if (node.kind == NodeKind::kSymlink) {
      bytes = "target" + std::to_string(i);
      node.content = tree::ContentKind::kInline;
      node.mode = 0777;
    }
    if (node.kind == NodeKind::kRegular) {
      bytes = bytes_of(number(1000), number(4) == 0 ? number(60000) : number(6000));
      std::uint32_t place = number(5);
      if (place == 0) bytes.assign(bytes.size(), '\0');
      node.content = place == 0 || bytes.empty() ? tree::ContentKind::kNone
                     : place == 1                ? tree::ContentKind::kInline
                                                 : tree::ContentKind::kObject;
      if (node.content == tree::ContentKind::kObject) node.object = blobs.put(bytes).value();
    }
    node.size = bytes.size();
    tree::XattrList xattrs;
    if (number(3) == 0) xattrs.emplace_back("user.x0", "lower");
    if (number(6) == 0 && node.kind == NodeKind::kRegular) xattrs.emplace_back("security.capability", "cap");
    NodePtr made;
    model.create(where, tree::to_file_type(node.kind), node.mode, node.rdev, bytes, {}, &made);
    made->uid = to_number(node.uid);
    made->gid = to_number(node.gid);
    made->mode = node.mode;
    for (const auto& [key, value] : xattrs) made->xattrs[key] = value;
    Ino ino =
        lower.add_node(dir, name, node, node.content == tree::ContentKind::kInline ? bytes : "", xattrs);
    made->ino = to_number(ino);
    made->mtime = made->ctime = {{1000 + i, 5}, {1000 + i, 5}};
    if (node.kind == NodeKind::kDirectory)
      dirs.emplace_back(ino, made);
    else
      files.emplace_back(ino, made);
  }
  model.end();
  // The model touched directories while it was filled; the tree did not.
  for (auto& [ino, dir] : dirs) {
    tree::Time time = lower.find_node(ino).value()->mtime;
    dir->mtime = dir->ctime = {{time.seconds, time.nanoseconds}, {time.seconds, time.nanoseconds}};
  }
}

struct RunOptions {
  bool remounts = true;  ///< false where other threads use the same UnionFs
  std::uint64_t seed = 0;
};

class RandomRun {
 public:
  /// Works below `root`, which `model_root` stands for. `remount` gives `fs` a new UnionFs over the same
  /// upper.
  RandomRun(std::unique_ptr<UnionFs>& fs, ReferenceModel& model, Ino root, NodePtr model_root,
            RunOptions options, std::function<void()> remount)
      : fs_(fs),
        model_(model),
        root_(root),
        model_root_(std::move(model_root)),
        options_(options),
        remount_(std::move(remount)) {}

  /// What is wrong; empty where both agree.
  std::string step(const Op& op) {
    complaint_.clear();
    std::string wrong = run(op);
    release();
    return complaint_ + wrong;
  }

  /// Everything below the root.
  std::string compare_all() {
    seen_.clear();
    return compare_tree("", model_root_, root_);
  }

  void close_all() {
    for (Slot& slot : slots_) close(slot);
  }

 private:
  struct Slot {
    NodePtr node;
    Ino ino{0};
  };
  // A path walked in both: directory and last name, or the error that both gave.
  struct Walked {
    Where where;
    Ino dir{0};
    int error = 0;
  };
  // A file that is there, by path or by slot; the error otherwise.
  struct Target {
    NodePtr node;
    Ino ino{0};
    int error = 0;
  };

  template <class T>
  static int code(const Result<T>& result) {
    return result ? 0 : result.error().code;
  }
  void complain(std::string what) { complaint_ += what + "\n"; }
  void expect(const char* what, int got, int wanted) {
    if (got != wanted)
      complain(fmt::format("{}: got '{}', expected '{}'", what, got ? errno_text(got) : "success",
                           wanted ? errno_text(wanted) : "success"));
  }

  void release() {
    for (Ino ino : held_) fs_->forget(ino, 1);
    held_.clear();
  }
  void close(Slot& slot) {
    if (slot.node) fs_->forget(slot.ino, 1);
    slot = {};
  }
  // Both have the same file under the same number, always.
  void meet(const NodePtr& node, Ino ino) {
    if (node->ino == 0) node->ino = to_number(ino);
    if (node->ino != to_number(ino))
      complain(fmt::format("inode number changed: {} to {}", node->ino, to_number(ino)));
  }

  Walked walk(std::uint32_t number) {
    std::vector<std::string> path = path_of(number);
    Walked walked{{model_root_, path.back()}, root_, 0};
    for (std::size_t i = 0; i + 1 < path.size(); ++i) {
      NodePtr dir = walked.where.dir;
      NodePtr next = dir->is_dir() ? model_.find({dir, path[i]}) : nullptr;
      int wanted = !dir->is_dir() ? ENOTDIR : next ? 0 : ENOENT;
      auto entry = fs_->lookup(walked.dir, path[i]);
      expect("lookup on the way", code(entry), wanted);
      if (entry) held_.push_back(entry->ino);
      if (wanted != 0 || !entry) return walked.error = wanted ? wanted : EIO, walked;
      meet(next, entry->ino);
      walked.where.dir = next;
      walked.dir = entry->ino;
    }
    return walked;
  }
  Target find(const Walked& walked) {
    if (walked.error != 0) return {nullptr, Ino{0}, walked.error};
    bool in_dir = walked.where.dir->is_dir();
    NodePtr node = in_dir ? model_.find(walked.where) : nullptr;
    int wanted = !in_dir ? ENOTDIR : node ? 0 : ENOENT;
    auto entry = fs_->lookup(walked.dir, walked.where.name);
    expect("lookup", code(entry), wanted);
    if (entry) held_.push_back(entry->ino);
    if (wanted != 0 || !entry) return {nullptr, Ino{0}, wanted ? wanted : EIO};
    meet(node, entry->ino);
    return {node, entry->ino, 0};
  }
  Target target(std::uint32_t number) {
    Slot& slot = slots_[number / 8 % slots_.size()];
    if (number % 8 == 0 && slot.node) return {slot.node, slot.ino, 0};
    return find(walk(number / 8));
  }

  void born(const Result<Entry>& entry, int wanted, const NodePtr& node) {
    expect("create", code(entry), wanted);
    if (!entry) return;
    held_.push_back(entry->ino);
    if (node) meet(node, entry->ino);
    if (node) complaint_ += compare_node("new", node, entry->ino);
  }

  std::string run(const Op& op) {
    switch (op.kind) {
      case OpKind::mkdir:
      case OpKind::mknod:
      case OpKind::special:
      case OpKind::symlink: return make(op);
      case OpKind::unlink:
      case OpKind::rmdir:
      case OpKind::rename:
      case OpKind::link: return change_names(op);
      case OpKind::write:
      case OpKind::truncate:
      case OpKind::fallocate:
      case OpKind::copy_range: return change_bytes(op);
      case OpKind::chmod:
      case OpKind::chown:
      case OpKind::utimens: return change_attributes(op);
      case OpKind::setxattr:
      case OpKind::removexattr: return change_xattrs(op);
      case OpKind::read:
      case OpKind::lseek:
      case OpKind::readdir: return look(op);
      case OpKind::open:
      case OpKind::close:
      case OpKind::tmpfile:
      case OpKind::link_slot: return use_slots(op);
      case OpKind::remount:
        if (!options_.remounts) return {};
        if (op.a % 2 == 0) close_all();  // else the server dies with files open
        slots_ = {};
        remount_();
        return compare_all();
      case OpKind::compare: return compare_all();
    }
    return {};
  }

  static Caller caller_of(const Who& who) { return {Uid{who.uid}, Gid{who.gid}, who.umask, 0}; }
  static Who who_of(std::uint32_t number) { return {number % 3, number / 3 % 3, number % 2 ? 022U : 077U}; }

  std::string make(const Op& op) {
    Walked to = walk(op.a);
    if (to.error != 0) return {};
    Who who = who_of(op.b);
    mode_t mode = op.c % 8 == 0 ? 02777 : op.c % 01000;
    std::string target = "t" + std::to_string(op.d);
    mode_t special = op.c % 2 ? S_IFIFO : S_IFCHR;
    NodePtr node;
    model_.begin();
    Result<Entry> entry;
    int wanted = 0;
    if (op.kind == OpKind::mkdir) {
      entry = fs_->mkdir(to.dir, to.where.name, mode, caller_of(who));
      wanted = model_.create(to.where, S_IFDIR, mode, 0, "", who, &node);
    } else if (op.kind == OpKind::symlink) {
      entry = fs_->symlink(to.dir, to.where.name, target, caller_of(who));
      wanted = model_.create(to.where, S_IFLNK, 0777, 0, target, who, &node);
    } else {
      mode_t type = op.kind == OpKind::mknod ? S_IFREG : special;
      entry = fs_->mknod(to.dir, to.where.name, type | mode, 0x501, caller_of(who));
      wanted = model_.create(to.where, type, mode, type == S_IFCHR ? 0x501 : 0, "", who, &node);
    }
    model_.end();
    born(entry, wanted, node);
    return {};
  }

  std::string change_names(const Op& op) {
    Walked from = walk(op.a);
    if (from.error != 0) return {};
    if (op.kind == OpKind::unlink || op.kind == OpKind::rmdir) {
      // As the kernel does it, which looks a name up before it removes it; or at once.
      if (op.b % 4 != 0) find(from);
      bool is_dir = op.kind == OpKind::rmdir;
      model_.begin();
      auto done =
          is_dir ? fs_->rmdir(from.dir, from.where.name, {}) : fs_->unlink(from.dir, from.where.name, {});
      int wanted = is_dir ? model_.rmdir(from.where) : model_.unlink(from.where);
      model_.end();
      expect("remove", code(done), wanted);
      return {};
    }
    Walked to = walk(op.b);
    if (to.error != 0) return {};
    if (op.kind == OpKind::rename) {
      if (op.d % 4 != 0) find(to);
      unsigned flags = op.c % 8 < 5 ? 0 : op.c % 8 - 4;  // 0, NOREPLACE, EXCHANGE, both
      model_.begin();
      auto done = fs_->rename(from.dir, from.where.name, to.dir, to.where.name, flags, {});
      int wanted = model_.rename(from.where, to.where, flags);
      model_.end();
      expect("rename", code(done), wanted);
      return {};
    }
    Target file = find(from);
    if (file.error != 0) return {};
    model_.begin();
    auto entry = fs_->link(file.ino, to.dir, to.where.name, {});
    int wanted = model_.link(file.node, to.where);
    model_.end();
    born(entry, wanted, wanted == 0 ? file.node : nullptr);
    return {};
  }

  std::string change_bytes(const Op& op) {
    Target file = target(op.a);
    if (file.error != 0) return {};
    std::uint64_t offset = op.b % 4 == 0 ? 0 : op.b % 30000;
    std::uint64_t size = op.c % 4 == 0 ? op.c % 20000 : op.c % 300;
    bool kill = op.d % 2 == 0;
    model_.begin();
    int got = 0;
    int wanted = 0;
    if (op.kind == OpKind::write) {
      std::string data = bytes_of(op.d, size);
      auto count = fs_->write(file.ino, offset, layerfs::as_bytes(data), {.kill_suid_sgid = kill}, {});
      got = code(count);
      wanted = model_.write(file.node, offset, data, kill);
      if (count && *count != size) complain("short write");
    } else if (op.kind == OpKind::truncate) {
      std::uint64_t to = op.c % 3 == 0 ? 0 : op.c % 3 == 1 ? file.node->bytes.size() / 2 : op.c % 40000;
      got = code(fs_->setattr(file.ino, {.size = to, .kill_suid_sgid = kill}, {}));
      wanted = model_.truncate(file.node, to, kill);
    } else if (op.kind == OpKind::fallocate) {
      static constexpr int kModes[] = {0, 1, 3, 2, 0x10, 0x11, 0x13, 8};
      int mode = kModes[op.d % 8];
      got = code(fs_->fallocate(file.ino, mode, offset, size, {}));
      wanted = model_.fallocate(file.node, mode, offset, size);
    } else {
      Target to = target(op.d);
      if (to.error != 0) return {};
      std::uint64_t out_offset = op.c % 3 == 0 ? 0 : op.c % 20000;
      std::uint64_t length = op.b % 4 == 0 ? 100000 : size;
      std::uint64_t copied = 0;
      auto count = fs_->copy_file_range(file.ino, offset, to.ino, out_offset, length, {});
      got = code(count);
      wanted = model_.copy_range(file.node, offset, to.node, out_offset, length, &copied);
      if (count && *count != copied) complain(fmt::format("copied {} bytes, expected {}", *count, copied));
    }
    model_.end();
    expect("change of bytes", got, wanted);
    return op.d % 3 == 0 ? compare_node("changed", file.node, file.ino) : std::string();
  }

  std::string change_attributes(const Op& op) {
    Target file = target(op.a);
    if (file.error != 0) return {};
    SetAttr changes;
    model_.begin();
    if (op.kind == OpKind::chmod) {
      changes.mode = static_cast<std::uint16_t>(op.b % 010000);
      model_.chmod(file.node, op.b % 010000);
    } else if (op.kind == OpKind::chown) {
      std::optional<std::uint32_t> uid, gid;
      if (op.b % 3 != 0) uid = op.c % 4;
      if (op.b % 3 != 1) gid = op.d % 4;
      if (uid) changes.uid = Uid{*uid};
      if (gid) changes.gid = Gid{*gid};
      model_.chown(file.node, uid, gid);
    } else {
      changes.mtime = Time{op.b, op.c};
      model_.set_mtime(file.node, {op.b, op.c});
    }
    auto node = fs_->setattr(file.ino, changes, {});
    model_.end();
    expect("setattr", code(node), 0);
    return compare_node("changed", file.node, file.ino);
  }

  std::string change_xattrs(const Op& op) {
    static const char* const kNames[] = {"user.x0", "user.x1", "trusted.t", "security.capability",
                                         kAccess,   kDefault};
    Target file = target(op.a);
    if (file.error != 0) return {};
    std::string name = kNames[op.b % 6];
    model_.begin();
    int got = 0;
    int wanted = 0;
    if (op.kind == OpKind::setxattr) {
      bool is_acl = op.b % 6 >= 4;
      std::string value = is_acl ? acl_of(op.c) : "v" + std::to_string(op.c);
      int flag = op.d % 6 < 4 ? 0 : static_cast<int>(op.d % 6) - 3;
      got = code(fs_->setxattr(file.ino, name, value, static_cast<SetXattrMode>(flag), {}));
      wanted = model_.set_xattr(file.node, name, value, flag);
    } else {
      got = code(fs_->removexattr(file.ino, name, {}));
      wanted = model_.remove_xattr(file.node, name);
    }
    model_.end();
    expect("xattr", got, wanted);
    return compare_node("changed", file.node, file.ino);
  }

  std::string use_slots(const Op& op) {
    Slot& slot = slots_[op.a % slots_.size()];
    if (op.kind == OpKind::close) {
      close(slot);
    } else if (op.kind == OpKind::open) {
      Target file = find(walk(op.b));
      if (file.error != 0) return {};
      close(slot);
      slot = {file.node, file.ino};
      fs_->remember(file.ino);
    } else if (op.kind == OpKind::tmpfile) {
      Target dir = find(walk(op.b));
      if (dir.error != 0) return {};
      close(slot);
      model_.begin();
      auto entry = fs_->tmpfile(dir.ino, op.c % 01000, caller_of(who_of(op.d)));
      int wanted = model_.tmpfile(dir.node, op.c % 01000, who_of(op.d), &slot.node);
      model_.end();
      expect("tmpfile", code(entry), wanted);
      if (entry) slot.ino = entry->ino;
      if (entry && slot.node) meet(slot.node, slot.ino);
    } else if (slot.node && (slot.node->nlink > 0 || slot.node->unnamed)) {
      Walked to = walk(op.b);
      if (to.error != 0) return {};
      model_.begin();
      auto entry = fs_->link(slot.ino, to.dir, to.where.name, {});
      int wanted = model_.link(slot.node, to.where);
      model_.end();
      born(entry, wanted, wanted == 0 ? slot.node : nullptr);
    }
    return slot.node ? compare_node("slot", slot.node, slot.ino) : std::string();
  }

  std::string look(const Op& op) {
    if (op.kind == OpKind::readdir) {
      Target dir = op.a % 3 == 0 ? Target{model_root_, root_, 0} : find(walk(op.a));
      return dir.error == 0 ? compare_listing("listing", dir.node, dir.ino, op.b % 5 + 1) : std::string();
    }
    Target file = target(op.a);
    if (file.error != 0) return {};
    std::uint64_t offset = op.b % 30000;
    if (op.kind == OpKind::lseek) return compare_seek(file, offset, op.c % 2 ? SEEK_DATA : SEEK_HOLE);
    int wanted = file.node->is_dir() ? EISDIR : file.node->is_regular() ? 0 : EINVAL;
    std::string buffer(op.c % 9000, '#');
    auto count = fs_->read(file.ino, offset, std::as_writable_bytes(std::span(buffer)));
    expect("read", code(count), wanted);
    if (!count) return {};
    buffer.resize(*count);
    const std::string& bytes = file.node->bytes;
    if (buffer != (offset < bytes.size() ? bytes.substr(offset, op.c % 9000) : ""))
      return "read gave other bytes\n";
    return {};
  }

  std::string compare_seek(const Target& file, std::uint64_t offset, int whence) {
    if (!file.node->is_regular()) return {};
    const std::string& bytes = file.node->bytes;
    auto all_zero = [&](std::uint64_t begin, std::uint64_t end) {
      return bytes.substr(begin, end - begin).find_first_not_of('\0') == std::string::npos;
    };
    auto found = fs_->lseek(file.ino, offset, whence);
    if (offset >= bytes.size()) return expect("lseek beyond the end", code(found), ENXIO), std::string();
    if (whence == SEEK_HOLE) {
      if (!found || *found < offset || *found > bytes.size()) return "SEEK_HOLE finds nothing\n";
      return *found == bytes.size() || bytes[*found] == '\0' ? "" : "SEEK_HOLE finds data\n";
    }
    if (!found)
      return found.error().code == ENXIO && all_zero(offset, bytes.size()) ? "" : "SEEK_DATA misses data\n";
    return *found >= offset && *found < bytes.size() && all_zero(offset, *found) ? ""
                                                                                 : "SEEK_DATA skips data\n";
  }

  // All entries, `batch` at a time, each time from the last cookie.
  std::string compare_listing(const std::string& path, const NodePtr& dir, Ino ino, std::uint32_t batch) {
    std::map<std::string, Ino> listed;
    DirCookie after = tree::kDirStart;
    for (bool more = true; more;) {
      more = false;
      std::uint32_t taken = 0;
      auto done = fs_->readdir(ino, after, [&](const EntryView& entry) {
        if (taken++ == batch) return more = true, false;
        if (entry.cookie <= after) complain("listing is out of order");
        after = entry.cookie;
        if (!listed.emplace(entry.name, entry.ino).second)
          complain(fmt::format("{} is listed twice", entry.name));
        return true;
      });
      int wanted = !dir->is_dir() ? ENOTDIR : dir->nlink == 0 ? ENOENT : 0;
      expect("readdir", code(done), wanted);
      if (!done) return {};
    }
    if (listed["."] != ino) complain(path + ": '.' is wrong");
    NodePtr parent = dir->parent.lock();
    if (parent && parent->ino != 0 && to_number(listed[".."]) != parent->ino)
      complain(path + ": '..' is wrong");
    listed.erase(".");
    listed.erase("..");
    std::string wrong;
    for (const auto& [name, child] : dir->children)
      if (!listed.contains(name)) wrong += fmt::format("{}/{} is not listed\n", path, name);
    for (const auto& [name, child] : listed)
      if (!dir->children.contains(name)) wrong += fmt::format("{}/{} should not be listed\n", path, name);
    return wrong;
  }

  static bool in(const Window& window, Time time) {
    return window.contains({time.seconds, time.nanoseconds});
  }

  std::string compare_node(const std::string& path, const NodePtr& node, Ino ino) {
    auto got = fs_->getattr(ino);
    if (!got) return fmt::format("{}: getattr: {}\n", path, got.error().message());
    std::string wrong;
    auto check = [&](const char* what, std::uint64_t is, std::uint64_t wanted) {
      if (is != wanted) wrong += fmt::format("{}: {} is {:#o}, expected {:#o}\n", path, what, is, wanted);
    };
    check("type", tree::to_file_type(got->kind), node->type);
    check("mode", got->mode, node->mode);
    check("uid", to_number(got->uid), node->uid);
    check("gid", to_number(got->gid), node->gid);
    check("nlink", got->nlink, node->nlink);
    check("rdev", got->rdev, node->rdev);
    if (!node->is_dir()) check("size", got->size, node->bytes.size());
    if (!in(node->mtime, got->mtime)) wrong += path + ": mtime is wrong\n";
    if (!in(node->ctime, got->ctime)) wrong += path + ": ctime is wrong\n";
    // From here on it is known exactly.
    node->mtime.earliest = node->mtime.latest = {got->mtime.seconds, got->mtime.nanoseconds};
    node->ctime.earliest = node->ctime.latest = {got->ctime.seconds, got->ctime.nanoseconds};
    return wrong + compare_xattrs(path, node, ino);
  }

  std::string compare_xattrs(const std::string& path, const NodePtr& node, Ino ino) {
    std::string wanted;
    for (const auto& [name, value] : node->xattrs) {
      wanted += name + '\0';
      auto got = fs_->getxattr(ino, name);
      if (!got || *got != value) return fmt::format("{}: xattr {} is wrong\n", path, name);
    }
    auto names = fs_->listxattr(ino);
    return names && *names == wanted ? "" : path + ": list of xattrs is wrong\n";
  }

  std::string compare_content(const std::string& path, const NodePtr& node, Ino ino) {
    if (node->type == S_IFLNK) {
      auto target = fs_->readlink(ino);
      return target && *target == node->bytes ? "" : path + ": target is wrong\n";
    }
    if (!node->is_regular()) return {};
    std::string buffer(node->bytes.size() + 10, '#');
    auto count = fs_->read(ino, 0, std::as_writable_bytes(std::span(buffer)));
    if (!count) return fmt::format("{}: read: {}\n", path, count.error().message());
    buffer.resize(*count);
    if (buffer == node->bytes) return {};
    auto at = std::mismatch(buffer.begin(), buffer.end(), node->bytes.begin(), node->bytes.end()).first;
    return fmt::format("{}: content is wrong at {} of {}\n", path, at - buffer.begin(), node->bytes.size());
  }

  std::string compare_tree(const std::string& path, const NodePtr& node, Ino ino) {
    std::string wrong = compare_node(path, node, ino);
    if (!node->is_dir() && !seen_.insert(ino).second) return wrong;
    wrong += compare_content(path, node, ino);
    if (!node->is_dir()) return wrong;
    wrong += compare_listing(path, node, ino, 3);
    for (const auto& [name, child] : node->children) {
      auto entry = fs_->lookup(ino, name);
      if (!entry) {
        wrong += fmt::format("{}/{}: lookup: {}\n", path, name, entry.error().message());
        continue;
      }
      if (child->ino == 0) child->ino = to_number(entry->ino);
      if (child->ino != to_number(entry->ino))
        wrong += fmt::format("{}/{} has another inode number\n", path, name);
      wrong += compare_tree(path + "/" + name, child, entry->ino);
      fs_->forget(entry->ino, 1);
    }
    return wrong;
  }

  std::unique_ptr<UnionFs>& fs_;
  ReferenceModel& model_;
  Ino root_;
  NodePtr model_root_;
  RunOptions options_;
  std::function<void()> remount_;
  std::vector<Ino> held_;
  std::array<Slot, 4> slots_;
  std::set<Ino> seen_;
  std::string complaint_;
};

}  // namespace layerfs::unionfs::model
