// SPDX-License-Identifier: Apache-2.0
// Every call that the union makes of its upper and of the object store fails once, in every operation, with
// each errno that a disk has: the operation says so and nothing has happened, or it has happened whole; and
// when there is room again the same call does what it does undisturbed.
#include <fcntl.h>

#include <functional>

#include "tests/union/union_fixture.h"

namespace layerfs::unionfs {
namespace {

class FaultyBlobs final : public tree::BlobSource {
 public:
  FaultyBlobs(std::shared_ptr<const tree::BlobSource> inner, FaultPlan& plan)
      : inner_(std::move(inner)), plan_(plan) {}
  Result<tree::Blob> open(const Digest& digest) const override {
    if (plan_.hits()) return errno_error(plan_.code);
    return inner_->open(digest);
  }

 private:
  std::shared_ptr<const tree::BlobSource> inner_;
  FaultPlan& plan_;
};

constexpr std::uint64_t kBig = 80'000;  // more than is copied up whole

enum class Times : std::uint8_t { kCompared, kIgnored };

/// A tree with one of everything: entries of the lower tree, copied up ones, new ones.
class Scene : public UnionTest {
 public:
  Scene() {
    Ino dir = lower_dir(tree::kRootIno, "dir");
    lower_dir(tree::kRootIno, "empty");
    lower_file(dir, "in", "inside");
    for (const char* name : {"small", "small2"}) lower_file(tree::kRootIno, name, "0123456789");
    for (const char* name : {"big", "big2", "ranged"}) lower_file(tree::kRootIno, name, big_content());
    lower_file(tree::kRootIno, "attr", "x", {{"user.old", "1"}});
    lower_symlink(tree::kRootIno, "link", "small");
    put_up();
    EXPECT_EQ(make_dir("newdir"), 0);
    EXPECT_EQ(make_file("place"), 0);  // its bytes lie in a shared file
    EXPECT_EQ(write("place", 0, "bytes of a place"), 0);
    EXPECT_EQ(make_file("own"), 0);
    EXPECT_EQ(write("own", 0, std::string(40'000, 'o')), 0);
    EXPECT_EQ(write("ranged", 70'000, "a range"), 0);
    EXPECT_EQ(link("own", "own2"), 0);
  }
  void TestBody() override {}

  /// Once more, as after a death of the server; what is cached is gone.
  void put_up() {
    fs_.reset();
    auto made = UnionFs::make(lower_, std::make_shared<FaultyBlobs>(blobs_, plan), upper_, {});
    ASSERT_TRUE(made);
    fs_ = std::move(*made);
  }
  void set_fault(int at, int errno_code) {
    plan = {at, errno_code};
    upper_->plan = &plan;
  }
  void end_faults() {
    upper_->plan = nullptr;
    plan = {};
  }
  /// Everything that can be seen. Of the file `in_place` neither bytes nor what depends on them.
  std::string picture(Times times, const std::string& in_place = {}) {
    std::string text;
    add(text, "", times, in_place.empty() ? Ino{0} : ino(in_place));
    return text;
  }
  static std::string big_content() {
    std::string bytes(kBig, '\0');
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>('a' + i / 1000 % 26);
    return bytes;
  }
  int fallocate(const std::string& path, int mode, std::uint64_t offset, std::uint64_t length) {
    return code(fs().fallocate(ino(path), mode, offset, length, {}));
  }
  int copy_range(const std::string& from, const std::string& to, std::uint64_t offset, std::uint64_t length) {
    auto count = fs().copy_file_range(ino(from), offset, ino(to), 0, length, {});
    EXPECT_EQ(count.value_or(length), length);
    return code(count);
  }
  int set_xattr(const std::string& path, const std::string& name, const std::string& value) {
    return code(fs().setxattr(ino(path), name, value, SetXattrMode::kAny, {}));
  }

  using UnionTest::dir_of;
  using UnionTest::expect_sound;
  using UnionTest::find;
  using UnionTest::forgotten;
  using UnionTest::fs;
  using UnionTest::ino;
  using UnionTest::link;
  using UnionTest::make_dir;
  using UnionTest::make_file;
  using UnionTest::read;
  using UnionTest::rename;
  using UnionTest::rmdir;
  using UnionTest::set;
  using UnionTest::unlink;
  using UnionTest::write;
  FaultPlan plan;

 private:
  void add(std::string& text, const std::string& path, Times times, Ino in_place) {
    Node node = this->node(path);
    const bool is_in_place = ino(path) == in_place;
    text += fmt::format("{} {} {:o} {} {} {}", path, static_cast<int>(node.kind), node.mode,
                        to_number(node.uid), node.nlink, is_in_place ? 0 : node.size);
    if (times == Times::kCompared && !is_in_place)
      text += fmt::format(" {}.{} {}.{}", node.mtime.seconds, node.mtime.nanoseconds, node.ctime.seconds,
                          node.ctime.nanoseconds);
    if (node.kind == NodeKind::kSymlink) text += " -> " + fs().readlink(ino(path)).value();
    if (node.kind == NodeKind::kRegular && !is_in_place)
      text += fmt::format(" {:x}", std::hash<std::string>{}(read(path)));
    std::string names = fs().listxattr(ino(path)).value();
    for (std::size_t at = 0; at < names.size(); at = names.find('\0', at) + 1) {
      std::string name = names.c_str() + at;
      text += fmt::format(" {}={}", name, fs().getxattr(ino(path), name).value());
    }
    text += "\n";
    if (node.kind != NodeKind::kDirectory) return;
    std::string all = this->names(path);
    for (std::size_t at = 0; at < all.size();) {
      std::size_t end = std::min(all.find(' ', at), all.size());
      add(text, (path.empty() ? "" : path + "/") + all.substr(at, end - at), times, in_place);
      at = end + 1;
    }
  }
};

struct Operation {
  const char* name;
  std::function<int(Scene&)> run;
  /// Writes over bytes that are there: whoever fails may have done so in part, as on any disk.
  std::string in_place = {};
};

const std::vector<Operation>& operations() {
  static const std::string kLong(35'000, 'L');  // more than a place holds
  static const std::vector<Operation> all{
      {"create", [](Scene& s) { return s.make_file("dir/new"); }},
      {"mkdir", [](Scene& s) { return s.make_dir("dir/new"); }},
      {"symlink", [](Scene& s) { return s.forgotten(s.fs().symlink(s.ino("dir"), "new", "to", {})); }},
      {"forget",
       [](Scene& s) {
         Ino file = s.fs().lookup(tree::kRootIno, "place").value().ino;
         int answer = s.unlink("place");
         s.fs().forget(file, 1);
         return answer;
       }},
      {"tmpfile", [](Scene& s) { return s.forgotten(s.fs().tmpfile(s.ino("dir"), 0600, {})); }},
      {"link of lower", [](Scene& s) { return s.link("big", "dir/new"); }},
      {"link of upper", [](Scene& s) { return s.link("place", "dir/new"); }},
      {"unlink of lower", [](Scene& s) { return s.unlink("dir/in"); }},
      {"unlink of upper", [](Scene& s) { return s.unlink("place"); }},
      {"unlink of a link", [](Scene& s) { return s.unlink("own2"); }},
      {"rmdir of lower", [](Scene& s) { return s.rmdir("empty"); }},
      {"rmdir of upper", [](Scene& s) { return s.rmdir("newdir"); }},
      {"rename", [](Scene& s) { return s.rename("dir/in", "newdir/in"); }},
      {"rename of a directory", [](Scene& s) { return s.rename("dir", "newdir/dir"); }},
      {"rename over lower", [](Scene& s) { return s.rename("small", "small2"); }},
      {"rename over upper", [](Scene& s) { return s.rename("small", "place"); }},
      {"rename over a directory", [](Scene& s) { return s.rename("dir", "newdir"); }},
      {"exchange", [](Scene& s) { return s.rename("dir", "place", RENAME_EXCHANGE); }},
      {"chmod", [](Scene& s) { return s.set("big", {.mode = 0600}); }},
      {"chown", [](Scene& s) { return s.set("place", {.uid = Uid{7}}); }},
      {"setxattr", [](Scene& s) { return s.set_xattr("big", "user.new", "value"); }},
      {"removexattr", [](Scene& s) { return code(s.fs().removexattr(s.ino("attr"), "user.old", {})); }},
      {"truncate of a small one", [](Scene& s) { return s.set("small", {.size = 3}); }},
      {"truncate of a large one", [](Scene& s) { return s.set("big", {.size = 66'000}); }},
      {"truncate to nothing", [](Scene& s) { return s.set("own", {.size = 0}); }},
      {"truncate of ranges", [](Scene& s) { return s.set("ranged", {.size = 70'003}); }},
      {"truncate of a place", [](Scene& s) { return s.set("place", {.size = 5}); }},
      {"growth", [](Scene& s) { return s.set("small", {.size = 100'000}); }},
      {"growth of a place", [](Scene& s) { return s.set("place", {.size = 100'000}); }},
      {"copy-up whole", [](Scene& s) { return s.write("small", 2, "XX"); }},
      {"copy-up by range", [](Scene& s) { return s.write("big", 50'000, "XX"); }},
      {"copy-up of all", [](Scene& s) { return s.write("small", 0, "0123456789ab"); }},
      {"append", [](Scene& s) { return s.write("place", 16, "and more"); }},
      {"append beyond the place", [](Scene& s) { return s.write("place", 16, kLong); }},
      {"append to a file", [](Scene& s) { return s.write("own", 40'000, kLong); }},
      {"append to ranges", [](Scene& s) { return s.write("ranged", kBig, kLong); }},
      {"write over", [](Scene& s) { return s.write("own", 5, kLong); }, "own"},
      {"write over ranges", [](Scene& s) { return s.write("ranged", 70'002, "RANGE"); }, "ranged"},
      {"first write",
       [](Scene& s) {
         int made = s.make_file("f");
         return made != 0 ? made : s.write("f", 0, kLong);
       }},
      {"punch lower", [](Scene& s) { return s.fallocate("big", 3, 8192, 40'960); }},
      {"punch upper", [](Scene& s) { return s.fallocate("own", 3, 8192, 40'960); }, "own"},
      {"reserve", [](Scene& s) { return s.fallocate("small", 0, 0, 60'000); }},
      {"clone",
       [](Scene& s) {
         int made = s.make_file("f");
         return made != 0 ? made : s.copy_range("big", "f", 0, kBig);
       }},
      {"copy of a part", [](Scene& s) { return s.copy_range("big", "small", 1000, 30'000); }},
      {"copy over", [](Scene& s) { return s.copy_range("big", "own", 1000, 30'000); }, "own"},
      {"fsync", [](Scene& s) { return code(s.fs().fsync(s.ino("own"), FsyncKind::kAll)); }},
      {"sync", [](Scene& s) { return code(s.fs().sync()); }},
  };
  return all;
}

/// Operations of two steps may have done the first.
bool has_steps(const Operation& operation) {
  return operation.name == std::string("first write") || operation.name == std::string("clone");
}

void try_with_fault(const Operation& operation, int at, int errno_code, const std::string& expected) {
  SCOPED_TRACE(fmt::format("{}, call {} fails with {}", operation.name, at, strerror(errno_code)));
  Scene scene;
  scene.put_up();
  const std::string before = scene.picture(Times::kCompared, operation.in_place);
  scene.put_up();  // with no descriptor open, so that each is opened by the operation
  scene.set_fault(at, errno_code);
  const int answer = operation.run(scene);
  scene.end_faults();
  if (answer == 0) {
    EXPECT_EQ(scene.picture(Times::kIgnored), expected);
  } else if (has_steps(operation)) {
    if (scene.find("f")) {
      EXPECT_EQ(scene.unlink("f"), 0);
    }
  } else {
    EXPECT_EQ(answer, errno_code);
    EXPECT_EQ(scene.picture(Times::kCompared, operation.in_place), before);
  }
  if (answer != 0) {
    EXPECT_EQ(operation.run(scene), 0) << "there is room again";
    EXPECT_EQ(scene.picture(Times::kIgnored), expected);
  }
  // What could not be erased when it was forgotten is erased with the next that is.
  EXPECT_EQ(scene.forgotten(scene.fs().tmpfile(tree::kRootIno, 0600, {})), 0);
  scene.expect_sound();
  scene.put_up();
  EXPECT_EQ(scene.picture(Times::kIgnored), expected) << "after a remount";
}

TEST(Faults, OfTheUpperAndTheStoreFailACallAndLoseNothing) {
  int faults = 0;
  for (const Operation& operation : operations()) {
    Scene undisturbed;
    undisturbed.put_up();
    undisturbed.set_fault(0, 0);
    ASSERT_EQ(operation.run(undisturbed), 0) << operation.name;
    const int calls = undisturbed.plan.calls;
    undisturbed.end_faults();
    ASSERT_GT(calls, 0) << operation.name;
    const std::string expected = undisturbed.picture(Times::kIgnored);
    for (int at = 1; at <= calls; ++at)
      for (int errno_code : {EIO, ENOSPC, EDQUOT, EMFILE}) {
        try_with_fault(operation, at, errno_code, expected);
        ++faults;
        if (::testing::Test::HasFailure()) return;
      }
  }
  EXPECT_GT(faults, 300);
}

}  // namespace
}  // namespace layerfs::unionfs
