// SPDX-License-Identifier: Apache-2.0
// Random operation sequences against the reference model: on lower trees with content, with remounts, on one
// and on several threads; over an upper in memory, and over a delta on disk that is closed, or left as kill
// -9 or a power failure leaves it, before each remount. LAYERFS_MODEL_OPS and LAYERFS_MODEL_SEED choose more
// of them, or the one that failed.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "fs/base/sys_file.h"
#include "fs/upper/delta_open.h"
#include "fs/upper/memory_upper.h"
#include "tests/base/scratch_dir.h"
#include "tests/base/time_bound.h"
#include "tests/union/random_run.h"
#include "tests/union/union_check.h"
#include "tests/upper/power_shadow.h"

namespace layerfs::unionfs {
namespace {

using namespace model;

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

constexpr std::uint64_t kDefaultOps = kSanitized ? 12'000 : 100'000;
constexpr std::size_t kSequence = 1000;

// kPower: a delta whose machine has no power any more before each remount, just after a flush.
enum class Medium : std::uint8_t { kMemory, kDelta, kPower };

void copy_sparse(const std::string& from, const std::string& to) {
  Fd in = open_file(from, O_RDONLY).value();
  Fd out = open_file(to, O_WRONLY | O_CREAT | O_EXCL, 0600).value();
  ASSERT_EQ(::ftruncate(out.get(), stat_fd(in.get()).value().st_size), 0);
  for (off_t at = 0; (at = ::lseek(in.get(), at, SEEK_DATA)) >= 0;) {
    for (off_t end = ::lseek(in.get(), at, SEEK_HOLE); at < end;) {
      off_t to_offset = at;
      ASSERT_GT(
          ::copy_file_range(in.get(), &at, out.get(), &to_offset, static_cast<std::size_t>(end - at), 0), 0);
    }
  }
}

void copy_tree(const std::string& from, const std::string& to) {
  namespace files = std::filesystem;
  files::create_directory(to);
  for (const auto& entry : files::recursive_directory_iterator(from)) {
    std::string target = to + entry.path().string().substr(from.size());
    if (entry.is_directory())
      files::create_directory(target);
    else
      copy_sparse(entry.path(), target);
  }
}

// A file system and its model from one seed.
struct World {
  explicit World(std::uint64_t seed, Medium where = Medium::kMemory)
      : medium(where), random(seed), blobs(std::make_shared<tree::MemoryBlobs>()) {
    lower = std::make_shared<tree::MemoryTree>();
    static constexpr std::uint64_t kLimits[] = {0, 4096, 65536};
    options.whole_copy_limit = kLimits[seed % 3];
  }
  void mount() {
    fs.reset();
    if (medium == Medium::kDelta)
      open_delta();
    else if (medium == Medium::kPower)
      open_after_power_failure();
    else if (!upper)
      upper = upper::make_memory_upper();
    fs = UnionFs::make(lower, blobs, upper, options).value();
  }
  // The delta as its last owner left it: closed, or, as a copy that was taken before, dead.
  void open_delta() {
    std::string old = directory;
    if (upper && mounts++ % 2 == 0) copy_tree(old, directory = fmt::format("{}/{}", scratch.path(), mounts));
    upper.reset();
    if (directory != old) {
      EXPECT_TRUE(remove_tree(old));
    }
    upper::DeltaTuning tuning;
    tuning.segment_size = (128U << 10) << (random() % 3);
    // Nothing happens by itself while a copy is taken.
    tuning.checkpoint_segments = 1000;
    tuning.flush_period = std::chrono::hours(1);
    upper = upper::open_delta_with(directory, {}, tuning).value();
  }
  // On another machine, what the disk has of the one before.
  void open_after_power_failure() {
    std::string old = directory;
    if (upper) {
      EXPECT_TRUE(upper->sync_node(Ino{1}, tree::FsyncKind::kAll));
      directory = fmt::format("{}/{}", scratch.path(), ++mounts);
      shadow->picture(directory, random);
    }
    upper.reset();
    if (directory != old) {
      EXPECT_TRUE(remove_tree(old));
    }
    shadow = std::make_unique<upper::Shadow>(directory);
    upper::DeltaTuning tuning;
    tuning.segment_size = (128U << 10) << (random() % 3);
    tuning.checkpoint_segments = 2 + static_cast<std::uint32_t>(random() % 8);
    tuning.flush_period = std::chrono::hours(1);
    tuning.sync = shadow.get();
    tuning.boot_id = [boot = static_cast<std::uint8_t>(1 + mounts % 255)] { return test::boot_of(boot); };
    upper = upper::open_delta_with(directory, {}, tuning).value();
  }
  // What programs flush now and then: everything, or the data of one file.
  void flush_some(const Op& op) {
    if (op.d % 12 == 0) {
      EXPECT_TRUE(upper->sync_node(tree::kRootIno, tree::FsyncKind::kAll));
    } else if (op.d % 12 == 1) {
      Ino chosen{0};
      std::uint32_t left = op.c % 16;
      upper->for_each_changed([&](Ino ino, const tree::ChangedParts&) { return chosen = ino, left-- != 0; });
      EXPECT_TRUE(upper->sync_node(chosen, tree::FsyncKind::kDataOnly));
    }
  }
  const Medium medium;
  ScratchDir scratch;
  std::unique_ptr<upper::Shadow> shadow;  // outlives the upper
  std::string directory = scratch / "0";
  int mounts = 0;
  std::mt19937_64 random;
  std::shared_ptr<tree::MemoryBlobs> blobs;
  std::shared_ptr<tree::MemoryTree> lower;
  std::shared_ptr<tree::UpperLayer> upper;
  UnionOptions options;
  std::unique_ptr<UnionFs> fs;
  ReferenceModel model;
};

// Runs a sequence in a new world. `at` gets the number of the operation that failed.
std::string run_sequence(std::uint64_t seed, Medium medium, const std::vector<Op>& ops, std::size_t& at) {
  World world(seed, medium);
  make_lower(world.random, *world.lower, *world.blobs, tree::kRootIno, world.model, world.model.root());
  world.mount();
  world.model.root()->ino = 1;
  RandomRun run(world.fs, world.model, tree::kRootIno, world.model.root(), {}, [&] { world.mount(); });
  std::string wrong = run.compare_all();
  for (at = 0; wrong.empty() && at < ops.size(); ++at) {
    wrong = run.step(ops[at]);
    if (medium != Medium::kPower || !wrong.empty()) continue;
    world.flush_some(ops[at]);
    if (ops[at].d % 48 == 2) wrong = run.step({.kind = OpKind::remount});
  }
  if (!wrong.empty()) return wrong;
  wrong = run.compare_all();
  run.close_all();
  return wrong + check_upper(*world.fs, *world.lower, *world.upper);
}

// Leaves out ever smaller parts while it still fails.
std::vector<Op> shorten(std::uint64_t seed, Medium medium, std::vector<Op> ops) {
  std::size_t at = 0;
  run_sequence(seed, medium, ops, at);
  ops.resize(std::min(ops.size(), at + 1));
  for (std::size_t part = std::max<std::size_t>(ops.size() / 2, 1);;) {
    for (std::size_t begin = 0; begin < ops.size();) {
      std::vector<Op> fewer(ops.begin(), ops.begin() + static_cast<std::ptrdiff_t>(begin));
      std::size_t end = std::min(begin + part, ops.size());
      fewer.insert(fewer.end(), ops.begin() + static_cast<std::ptrdiff_t>(end), ops.end());
      if (run_sequence(seed, medium, fewer, at).empty())
        begin = end;
      else
        ops = std::move(fewer);
    }
    if (part == 1) return ops;
    part = std::max<std::size_t>(part / 2, 1);
  }
}

void report(std::uint64_t seed, Medium medium, const std::vector<Op>& ops) {
  std::vector<Op> fewer = shorten(seed, medium, ops);
  std::size_t at = 0;
  std::string wrong = run_sequence(seed, medium, fewer, at);
  std::string text;
  for (const Op& op : fewer) text += "  " + to_text(op) + "\n";
  FAIL() << "LAYERFS_MODEL_SEED=" << seed << ", shortened to " << fewer.size() << " operations:\n"
         << text << wrong;
}

void run_sequences(Medium medium, std::uint64_t count) {
  std::uint64_t first = number_from("LAYERFS_MODEL_SEED", 1);
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<Op> ops = make_ops(random, kSequence);
    std::size_t at = 0;
    if (!run_sequence(seed, medium, ops, at).empty()) return report(seed, medium, ops);
  }
}

// The log has the bytes of a flush that was small. A size that was cut since, and is what it was again, must
// not get them back.
TEST(AfterAPowerFailure, BytesThatWereCutOffStayZeros) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed, Medium::kPower);
    world.mount();
    Ino file = world.fs->mknod(tree::kRootIno, "f", S_IFREG | 0644, 0, {}).value().ino;
    std::string bytes(100, 'a');
    ASSERT_TRUE(world.fs->write(file, 0, std::as_bytes(std::span(bytes)), {}, {}));
    ASSERT_TRUE(world.fs->fsync(file, FsyncKind::kAll));
    ASSERT_TRUE(world.fs->setattr(file, {.size = 50}, {}));
    ASSERT_TRUE(world.fs->setattr(file, {.size = 100}, {}));
    ASSERT_TRUE(world.fs->fsync(file, FsyncKind::kAll));
    world.mount();
    std::string found(100, '#');
    ASSERT_TRUE(world.fs->read(file, 0, std::as_writable_bytes(std::span(found))));
    EXPECT_EQ(found, std::string(50, 'a') + std::string(50, '\0'));
  }
}

TEST(RandomOperations, AgreeWithTheReferenceModel) {
  run_sequences(Medium::kMemory, number_from("LAYERFS_MODEL_OPS", kDefaultOps) / kSequence);
}

TEST(RandomOperations, AgreeWithTheReferenceModelOverADeltaOnDisk) {
  run_sequences(Medium::kDelta, number_from("LAYERFS_MODEL_OPS", kDefaultOps / 10) / kSequence);
}

TEST(RandomOperations, AgreeWithTheReferenceModelAfterPowerFailures) {
  run_sequences(Medium::kPower,
                std::max<std::uint64_t>(1, number_from("LAYERFS_MODEL_OPS", kDefaultOps / 25) / kSequence));
}

// Each has a directory and a model of its own; between the rounds there is a remount.
void run_threads(Medium medium, std::uint64_t seed, std::uint64_t count, int rounds) {
  constexpr int kThreads = 4;
  World world(seed, medium);
  std::array<ReferenceModel, kThreads> models;
  std::array<Ino, kThreads> tops{};
  for (int i = 0; i < kThreads; ++i) {
    Node node;
    node.kind = NodeKind::kDirectory;
    node.mode = 0755;
    tops[i] = world.lower->add_node(tree::kRootIno, "thread" + std::to_string(i), node, {}, {});
    make_lower(world.random, *world.lower, *world.blobs, tops[i], models[i], models[i].root());
    models[i].root()->ino = to_number(tops[i]);
    // The top's parent is the file system's root, which this model doesn't have.
    models[i].root()->parent.reset();
  }
  world.mount();
  for (int round = 0; round < rounds; ++round) {
    std::array<std::string, kThreads> wrong;
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        std::mt19937_64 random((seed * 100 + static_cast<std::uint64_t>(round)) * 100 +
                               static_cast<std::uint64_t>(i));
        RandomRun run(world.fs, models[i], tops[i], models[i].root(), {.remounts = false}, [] {});
        wrong[i] = run.compare_all();
        for (const Op& op : make_ops(random, count)) {
          if (!wrong[i].empty()) return;
          wrong[i] = run.step(op);
        }
        if (wrong[i].empty()) wrong[i] = run.compare_all();
        run.close_all();
      });
    }
    for (auto& thread : threads) thread.join();
    for (const std::string& text : wrong)
      ASSERT_EQ(text, "") << "LAYERFS_MODEL_SEED=" << seed << ", round " << round;
    ASSERT_EQ(check_upper(*world.fs, *world.lower, *world.upper), "") << "LAYERFS_MODEL_SEED=" << seed;
    world.mount();
  }
}

TEST(RandomOperations, OfSeveralThreadsAgreeWithAModelOfEach) {
  run_threads(Medium::kMemory, number_from("LAYERFS_MODEL_SEED", 1),
              number_from("LAYERFS_MODEL_OPS", kDefaultOps) / 32, 2);
}

TEST(RandomOperations, OfSeveralThreadsAgreeWithAModelOfEachOverADeltaOnDisk) {
  run_threads(Medium::kDelta, number_from("LAYERFS_MODEL_SEED", 1),
              number_from("LAYERFS_MODEL_OPS", kDefaultOps / 10) / 32, 8);
}

// One operation on names that other threads use too: whatever it answers is right.
class Disturber {
 public:
  explicit Disturber(UnionFs& fs) : fs_(fs) {}
  void step(const Op& op) {
    auto [dir, name] = walk(op.a);
    auto [to_dir, to_name] = walk(op.b);
    if (dir != Ino{0} && to_dir != Ino{0}) {
      auto file = fs_.lookup(dir, name);
      if (file) held_.push_back(file->ino);
      if (!change_name(op, dir, name, to_dir, to_name) && file) change_file(op, *file, to_dir, to_name);
    }
    for (Ino ino : held_) fs_.forget(ino, 1);
    held_.clear();
  }

 private:
  std::pair<Ino, std::string> walk(std::uint32_t number) {
    std::vector<std::string> path = path_of(number);
    Ino dir = tree::kRootIno;
    for (std::size_t i = 0; i + 1 < path.size(); ++i) {
      auto entry = fs_.lookup(dir, path[i]);
      if (!entry) return {Ino{0}, ""};
      held_.push_back(dir = entry->ino);
    }
    return {dir, path.back()};
  }
  void keep(const Result<Entry>& entry) {
    if (entry) held_.push_back(entry->ino);
  }
  // False where `op` is not one of names.
  bool change_name(const Op& op, Ino dir, const std::string& name, Ino to_dir, const std::string& to_name) {
    switch (op.kind) {
      case OpKind::mkdir: keep(fs_.mkdir(dir, name, 0755, {})); return true;
      case OpKind::mknod:
      case OpKind::open: keep(fs_.mknod(dir, name, S_IFREG | 0644, 0, {})); return true;
      case OpKind::symlink: keep(fs_.symlink(dir, name, "t", {})); return true;
      case OpKind::unlink: (void)fs_.unlink(dir, name, {}); return true;
      case OpKind::rmdir: (void)fs_.rmdir(dir, name, {}); return true;
      case OpKind::rename:
      case OpKind::close:
        (void)fs_.rename(dir, name, to_dir, to_name, op.c % 4 == 0 ? RENAME_EXCHANGE : 0, {});
        return true;
      case OpKind::readdir:
        (void)fs_.readdir(dir, tree::kDirStart, [](const EntryView&) { return true; });
        return true;
      default: return false;
    }
  }
  void change_file(const Op& op, const Entry& file, Ino to_dir, const std::string& to_name) {
    std::string data = bytes_of(op.c, op.c % 500);
    switch (op.kind) {
      case OpKind::link:
        // The kernel lets no unlinked file be linked; here it may have been unlinked since.
        if (auto node = fs_.getattr(file.ino); node && node->nlink > 0)
          keep(fs_.link(file.ino, to_dir, to_name, {}));
        break;
      case OpKind::write: (void)fs_.write(file.ino, op.d % 9000, layerfs::as_bytes(data), {}, {}); break;
      case OpKind::truncate: (void)fs_.setattr(file.ino, {.size = op.d % 9000}, {}); break;
      case OpKind::chmod: (void)fs_.setattr(file.ino, {.mode = 0700}, {}); break;
      case OpKind::setxattr: (void)fs_.setxattr(file.ino, "user.a", data, SetXattrMode::kAny, {}); break;
      case OpKind::copy_range:
        if (auto other = fs_.lookup(to_dir, to_name)) {
          held_.push_back(other->ino);
          (void)fs_.copy_file_range(file.ino, 0, other->ino, 0, 9000, {});
        }
        break;
      default: (void)fs_.read(file.ino, 0, std::as_writable_bytes(std::span(data))); break;
    }
  }

  UnionFs& fs_;
  std::vector<Ino> held_;
};

// No model can say what comes out of this: only that nothing is lost, leaked or torn.
TEST(RandomOperations, OfSeveralThreadsOnTheSameNamesLeaveASoundTree) {
  constexpr int kThreads = 4;
  std::uint64_t seed = number_from("LAYERFS_MODEL_SEED", 1);
  std::uint64_t count = number_from("LAYERFS_MODEL_OPS", kDefaultOps) / kThreads / 4;
  World world(seed);
  ReferenceModel unused;
  make_lower(world.random, *world.lower, *world.blobs, tree::kRootIno, unused, unused.root());
  world.mount();
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937_64 random(seed * 100 + static_cast<std::uint64_t>(i));
      Disturber disturber(*world.fs);
      for (const Op& op : make_ops(random, count)) disturber.step(op);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(check_upper(*world.fs, *world.lower, *world.upper), "") << "LAYERFS_MODEL_SEED=" << seed;
}

}  // namespace
}  // namespace layerfs::unionfs
