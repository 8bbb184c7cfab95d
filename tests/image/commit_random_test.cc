// SPDX-License-Identifier: Apache-2.0
// Random changes through the union, committed: the tree of the new image is the union, whatever was changed.
// A failure prints its seed; LAYERFS_COMMIT_SEEDS is how many seeds are tried (40).
#include <gtest/gtest.h>
#include <linux/fs.h>

#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/image/commit_scene.h"

namespace layerfs::image {
namespace {

using tree::Ino;
using tree::NodeKind;

/// What an archive can say of a tree, by path; hard links are told by the first path of their inode.
using Picture = std::map<std::string, std::string>;

class CommitRandom : public CommitScene {
 protected:
  struct Name {
    Ino dir;
    std::string name;
    Ino ino;
    NodeKind kind;
    std::string path;
  };

  /// Every name of the union, parents first, in bytewise order of the paths' names.
  std::vector<Name> names() {
    std::vector<Name> all;
    list_below(tree::kRootIno, "", all);
    return all;
  }
  void list_below(Ino dir, const std::string& path, std::vector<Name>& all) {
    std::map<std::string, std::pair<Ino, NodeKind>> children;
    auto listed = union_->readdir(dir, tree::kDirStart, [&](const tree::EntryView& entry) {
      if (entry.name != "." && entry.name != "..")
        children[std::string(entry.name)] = {entry.ino, entry.node.kind};
      return true;
    });
    ASSERT_TRUE(listed) << listed.error().message();
    for (const auto& [name, child] : children) {
      std::string full = path.empty() ? name : path + '/' + name;
      all.push_back({dir, name, child.first, child.second, full});
      if (child.second == NodeKind::kDirectory) list_below(child.first, full, all);
    }
  }

  static std::string describe(const tree::Node& node) {
    bool is_file = node.kind == NodeKind::kRegular;
    bool is_dir = node.kind == NodeKind::kDirectory;
    return "kind " + std::to_string(static_cast<int>(node.kind)) + " mode " + std::to_string(node.mode) +
           " owner " + std::to_string(to_number(node.uid)) + ':' + std::to_string(to_number(node.gid)) +
           " time " + std::to_string(node.mtime.seconds) + '.' + std::to_string(node.mtime.nanoseconds) +
           " size " + std::to_string(is_file ? node.size : 0) + " rdev " + std::to_string(node.rdev) +
           " nlink " + std::to_string(is_dir ? 0 : node.nlink);
  }

  Picture union_picture() {
    Picture picture;
    std::map<Ino, std::string> first;
    picture["."] = describe(union_->getattr(tree::kRootIno).value());
    for (const auto& name : names()) {
      std::string text = describe(union_->getattr(name.ino).value());
      if (name.kind != NodeKind::kDirectory)
        text += " first " + first.try_emplace(name.ino, name.path).first->second;
      std::string xattrs = union_->listxattr(name.ino).value();
      std::map<std::string, std::string> sorted;
      for (std::size_t at = 0; at < xattrs.size(); at = xattrs.find('\0', at) + 1) {
        std::string key = xattrs.c_str() + at;
        sorted[key] = union_->getxattr(name.ino, key).value();
      }
      for (const auto& [key, value] : sorted) text += " " + key + "=" + value;
      if (name.kind == NodeKind::kSymlink) text += " -> " + union_->readlink(name.ino).value();
      if (name.kind == NodeKind::kRegular) text += " content " + sha256(union_content(name.ino)).hex();
      picture[name.path] = text;
    }
    return picture;
  }
  std::string union_content(Ino ino) {
    std::string bytes(union_->getattr(ino).value().size, '\0');
    auto got = union_->read(ino, 0, std::as_writable_bytes(std::span(bytes)));
    EXPECT_TRUE(got && *got == bytes.size());
    return bytes;
  }

  Picture tree_picture(const store::ImageRecord& image) {
    Picture picture;
    std::map<Ino, std::string> first;
    picture["."] = describe(tree_of(image)->find_node(tree::kRootIno).value().value());
    describe_below(*tree_of(image), image, tree::kRootIno, "", first, picture);
    return picture;
  }
  void describe_below(const tree::TreeSource& tree, const store::ImageRecord& image, Ino dir,
                      const std::string& path, std::map<Ino, std::string>& first, Picture& picture) {
    std::map<std::string, std::pair<Ino, tree::Node>> children;
    ASSERT_TRUE(tree.list_entries(dir, tree::kDirStart, [&](const tree::EntryView& entry) {
      children.emplace(entry.name, std::pair(entry.ino, entry.node));
      return true;
    }));
    for (const auto& [name, child] : children) {
      const auto& [ino, node] = child;
      std::string full = path.empty() ? name : path + '/' + name;
      std::string text = describe(node);
      if (node.kind != NodeKind::kDirectory) text += " first " + first.try_emplace(ino, full).first->second;
      ASSERT_TRUE(tree.list_xattrs(ino, [&](std::string_view key, std::string_view value) {
        text += " " + std::string(key) + "=" + std::string(value);
        return true;
      }));
      if (node.kind == NodeKind::kSymlink) text += " -> " + tree.get_inline(ino).value();
      if (node.kind == NodeKind::kRegular) text += " content " + sha256(content(image, full)).hex();
      picture[full] = text;
      if (node.kind == NodeKind::kDirectory) describe_below(tree, image, ino, full, first, picture);
    }
  }

  std::uint32_t pick(std::uint32_t below) { return static_cast<std::uint32_t>(random_()) % below; }
  std::string some_name() { return std::string(1, static_cast<char>('a' + pick(6))); }

  /// One change at random; many fail (EEXIST, ENOTEMPTY...), which is as good.
  void change_something() {
    std::vector<Name> all = names();
    std::vector<Ino> dirs = {tree::kRootIno};
    std::vector<Name> files;
    for (const auto& name : all) {
      if (name.kind == NodeKind::kDirectory) dirs.push_back(name.ino);
      if (name.kind == NodeKind::kRegular) files.push_back(name);
    }
    Ino dir = dirs[pick(static_cast<std::uint32_t>(dirs.size()))];
    const Name* any = all.empty() ? nullptr : &all[pick(static_cast<std::uint32_t>(all.size()))];
    const Name* file = files.empty() ? nullptr : &files[pick(static_cast<std::uint32_t>(files.size()))];
    switch (pick(14)) {
      case 0:
        if (auto made = union_->mknod(dir, some_name(), S_IFREG | pick(07777), 0, {}))
          static_cast<void>(
              union_->write(made->ino, pick(100), as_bytes(std::string(pick(200000), 'n')), {}, {}));
        break;
      case 1: static_cast<void>(union_->mkdir(dir, some_name(), 0755, {})); break;
      case 2: static_cast<void>(union_->symlink(dir, some_name(), "target/" + some_name(), {})); break;
      case 3:
        static_cast<void>(
            union_->mknod(dir, some_name(), pick(2) == 0 ? S_IFIFO | 0600 : S_IFCHR | 0600, 0x103, {}));
        break;
      case 4:
      case 5:
        if (any == nullptr) break;
        if (any->kind == NodeKind::kDirectory) {
          static_cast<void>(union_->rmdir(any->dir, any->name, {}));
        } else {
          static_cast<void>(union_->unlink(any->dir, any->name, {}));
        }
        break;
      case 6:
      case 7:
        if (any != nullptr)
          static_cast<void>(
              union_->rename(any->dir, any->name, dir, some_name(), pick(4) == 0 ? RENAME_EXCHANGE : 0, {}));
        break;
      case 8:
        if (any != nullptr) static_cast<void>(union_->link(any->ino, dir, some_name(), {}));
        break;
      case 9:
        if (file != nullptr)
          static_cast<void>(
              union_->write(file->ino, pick(300000), as_bytes(std::string(pick(5000) + 1, 'w')), {}, {}));
        break;
      case 10: {
        unionfs::SetAttr attr;
        if (pick(2) == 0) attr.size = pick(300000);
        if (pick(2) == 0) attr.uid = tree::Uid{pick(3)};
        if (file != nullptr) static_cast<void>(union_->setattr(file->ino, attr, {}));
        break;
      }
      case 11: {
        unionfs::SetAttr attr;
        // The kernel lets nobody change the mode of a symlink.
        bool has_mode = any != nullptr && any->kind != NodeKind::kSymlink;
        if (has_mode && pick(2) == 0) attr.mode = static_cast<std::uint16_t>(pick(07777));
        if (pick(2) == 0) attr.mtime = tree::Time{pick(2000000000), pick(1000000000)};
        if (any != nullptr) static_cast<void>(union_->setattr(any->ino, attr, {}));
        break;
      }
      case 12:
        if (any != nullptr)
          static_cast<void>(union_->setxattr(any->ino, "trusted." + some_name(), some_name(),
                                             unionfs::SetXattrMode::kAny, {}));
        break;
      default:
        if (any != nullptr) static_cast<void>(union_->removexattr(any->ino, "trusted." + some_name(), {}));
    }
  }

  std::mt19937_64 random_;
};

std::string random_base() {
  TarBuilder tar;
  tar.dir("a/").dir("a/b/").dir("a/c/").dir("b/").dir("b/a/").dir("c/");
  tar.file("a/a", "one").file("a/b/a", "two").file("a/b/b", std::string(150000, 'x')).file("b/a/c", "three");
  tar.add({.name = "a/b/c", .type = '1', .link = "a/a"});
  tar.add({.name = "b/b", .type = '1', .link = "a/a"});
  tar.add({.name = "c/a", .type = '2', .link = "../a"});
  tar.pax({{"SCHILY.xattr.trusted.a", "1"}, {"SCHILY.xattr.trusted.b", "2"}}).file("c/b", "xattrs");
  return tar.finish();
}

TEST_F(CommitRandom, NewImageIsTheUnion) {
  const char* wanted = std::getenv("LAYERFS_COMMIT_SEEDS");
  int seeds = wanted != nullptr ? std::atoi(wanted) : 40;
  start({random_base()});
  store::ImageRecord base = store_->find_image("localhost/base:latest").value().value();
  for (int seed = 1; seed <= seeds && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    random_.seed(static_cast<std::uint64_t>(seed));
    start_over(base);
    int changes = 1 + seed % 30;
    for (int i = 0; i < changes; ++i) change_something();
    Picture wanted_picture = union_picture();
    auto image = committed("new");
    EXPECT_EQ(tree_picture(image), wanted_picture);
    EXPECT_EQ(committed("again").layers.back(), image.layers.back());
  }
}

}  // namespace
}  // namespace layerfs::image
