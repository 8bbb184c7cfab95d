// SPDX-License-Identifier: Apache-2.0
// Samples of every version of a store (tests/data/good/store-VERSION.tar.gz): they open, are whole, and say what
// they said then (store-VERSION.txt).
//
// A sample is an image of two layers with small, large and empty files, its merged tree, an image that lost its
// name, and a container over one layer more, of a link and from version 2 on a content with a hole. Made by store_test
// --gtest_also_run_disabled_tests --gtest_filter='*WritesASample' with the place (a directory) in $LAYERFS_SAMPLE;
// do so for a new version before it is changed again. store-1 is that of version 2 without the content with holes.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdlib>

#include "fs/store/layout.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

constexpr std::uint64_t kHole = 1 << 20;

/// Runs tar(1).
void tar(std::vector<std::string> arguments) {
  std::vector<char*> argv{const_cast<char*>("tar")};
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = ::fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    ::execvp("tar", argv.data());
    ::_exit(127);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_EQ(status, 0);
}

/// The name of a content of some bytes, a hole, and some bytes.
Digest put_sparse(Store& store) {
  auto writer = value_of(store.objects().make_writer());
  value_of(writer->begin_sparse());
  value_of(writer->append(as_bytes("before the hole")));
  value_of(writer->append_hole(kHole));
  value_of(writer->append(as_bytes("behind the hole")));
  Digest digest = value_of(writer->end());
  value_of(writer->finish());
  return digest;
}

/// A layer of a link and, from version 2 on, a file with a hole; its tar is told as raw bytes.
Digest write_top_layer(Store& store, unsigned version) {
  auto layer = value_of(store.make_layer_writer());
  std::string text = fmt::format("the tar of version {}", version);
  LayerInfo info{sha256(text), text.size(), 0, 1};
  value_of(layer->add_raw(text));
  tree::LayerRecord link;
  link.kind = tree::RecordKind::kNode;
  link.path = "link";
  link.target = "a/b";
  link.node.kind = tree::NodeKind::kSymlink;
  link.node.mode = 0777;
  link.node.size = link.target.size();
  value_of(layer->add_record(link));
  if (version > 1) {
    tree::LayerRecord file;
    file.kind = tree::RecordKind::kNode;
    file.path = "sparse";
    file.node.mode = 0600;
    file.node.size = kHole + 30;
    file.node.content = tree::ContentKind::kObject;
    file.node.object = put_sparse(store);
    file.xattrs = {{"user.note", "has a hole"}};
    value_of(layer->add_record(file));
    info.content_bytes = file.node.size;
    ++info.entries;
  }
  value_of(layer->publish(info));
  return info.diff_id;
}

/// What the .txt of a sample has.
std::string listing(Store& store) {
  std::string text;
  auto show_tree = [&](const std::vector<Digest>& diff_ids) {
    auto tree = value_of(store.get_tree(diff_ids));
    auto show_entry = [&](const tree::EntryView& entry) {
      const tree::Node& node = entry.node;
      text += fmt::format("  {} ino {} mode {:o} size {}", entry.name, tree::to_number(entry.ino), node.mode,
                          node.size);
      if (node.content == tree::ContentKind::kInline) text += " -> " + value_of(tree->get_inline(entry.ino));
      if (node.content == tree::ContentKind::kObject)
        text += fmt::format(" object {} bytes {}", node.object.hex(),
                            sha256(read_blob(value_of(store.objects().open(node.object)))).hex());
      value_of(tree->list_xattrs(entry.ino, [&](std::string_view name, std::string_view value) {
        text += fmt::format(" {}={}", name, value);
        return true;
      }));
      text += '\n';
      return true;
    };
    value_of(tree->list_entries(tree::kRootIno, tree::DirCookie{}, show_entry));
  };
  for (const auto& image : value_of(store.list_images())) {
    text += fmt::format("image '{}' manifest {} config {} chain {}\n", image.reference, image.manifest.hex(),
                        image.config.hex(), image.chain.hex());
    text += fmt::format("  {} {}\n", value_of(store.get_blob(image.manifest)),
                        value_of(store.get_blob(image.config)));
    show_tree(diff_ids_of(image));
  }
  for (const auto& container : value_of(store.list_containers())) {
    text += fmt::format("container '{}' {} of '{}' created {} mount {}\n", container.name, container.id,
                        container.image_reference, container.created_at, container.is_mount);
    show_tree(container.layers);
  }
  return text;
}

TEST(StoreFormatTest, SamplesSayWhatTheySaid) {
  for (unsigned version = kOldestStoreVersion; version <= kStoreVersion; ++version) {
    SCOPED_TRACE(version);
    const std::string sample = fmt::format(LAYERFS_TEST_DATA "/good/store-{}", version);
    TemporaryDirectory directory;
    std::string root = directory.path() + "/store";
    ASSERT_DONE(make_dir(root, 0700));
    ASSERT_NO_FATAL_FAILURE(tar({"-xzf", sample + ".tar.gz", "-C", root}));
    EXPECT_EQ(value_of(read_file(root + "/format")), fmt::format("layerfs store {}\n", version));
    for (StoreAccess access : {StoreAccess::kRead, StoreAccess::kWrite}) {
      auto store = value_of(Store::open(root, access));
      EXPECT_EQ(listing(*store), value_of(read_file(sample + ".txt")));
      EXPECT_EQ(problems_of(*store), "");
    }
    auto store = value_of(Store::open(root, StoreAccess::kWrite));
    value_of(store->gc());
    EXPECT_EQ(problems_of(*store), "");
    EXPECT_THAT(listing(*store), testing::HasSubstr("container 'work'"));
  }
}

TEST(StoreFormatTest, DISABLED_WritesASample) {
  const char* place = std::getenv("LAYERFS_SAMPLE");
  ASSERT_NE(place, nullptr) << "LAYERFS_SAMPLE is the place";
  TemporaryDirectory directory;
  for (unsigned version : {1U, 2U}) {
    std::string root = directory.path() + fmt::format("/store-{}", version);
    auto store = value_of(Store::open(root, StoreAccess::kWrite));
    const std::vector<TestFile> lower{{"a", "a small one"}, {"b", std::string(70000, 'b')}, {"empty", ""}};
    value_of(write_image(*store, "localhost/sample:1", {{{"old", "of the nameless"}}}));
    ImageRecord image =
        value_of(write_image(*store, "localhost/sample:1", {lower, {{"a", "another"}, {"c", "new"}}}));
    std::vector<Digest> layers = diff_ids_of(image);
    layers.push_back(write_top_layer(*store, version));
    ContainerRecord container;
    container.id = std::string(64, '7');
    container.name = "work";
    container.image_reference = image.reference;
    container.image_manifest = image.manifest;
    container.image_config = image.config;
    container.layers = layers;
    container.chain = chain_id(layers);
    container.created_at = 1'700'000'000;
    container.is_mount = true;
    value_of(store->add_container(container));
    value_of(write_file_atomic(place + fmt::format("/store-{}.txt", version), listing(*store), 0644));
    store.reset();
    value_of(write_file_atomic(root + "/format", fmt::format("layerfs store {}\n", version), 0600));
    tar({"-czf", place + fmt::format("/store-{}.tar.gz", version), "--owner=0", "--group=0", "--sparse", "-C",
         root, "."});
  }
}

}  // namespace
}  // namespace layerfs::store
