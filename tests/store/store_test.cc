// SPDX-License-Identifier: Apache-2.0
// The store as a whole: opening, blobs, images, containers, merged trees, usage, references.
#include "fs/store/store.h"

#include <fcntl.h>

#include <thread>

#include "fs/store/lmdb.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

using tree::kRootIno;

TEST(StoreOpenTest, ReadingNeedsAStoreAndWritingMakesOne) {
  TemporaryDirectory directory;
  std::string root = directory.path() + "/a/b/store";
  EXPECT_EQ(Store::open(root, StoreAccess::kRead).error().code, ENOENT);
  EXPECT_FALSE(std::filesystem::exists(root));
  ASSERT_DONE(Store::open(root, StoreAccess::kWrite));
  auto reading = value_of(Store::open(root, StoreAccess::kRead));
  EXPECT_TRUE(value_of(reading->list_images()).empty());
  EXPECT_EQ(std::filesystem::status(root).permissions(), std::filesystem::perms::owner_all);
  EXPECT_EQ(reading->put_image({}).error().code, EROFS);
  EXPECT_EQ(reading->lease().error().code, EROFS);
  EXPECT_EQ(reading->gc().error().code, EROFS);
}

TEST(StoreOpenTest, OtherVersionsAndDamageAreTold) {
  TemporaryDirectory directory;
  std::string root = directory.path() + "/store";
  ASSERT_DONE(Store::open(root, StoreAccess::kWrite));
  auto write = [&](std::string_view text) { value_of(write_file_atomic(root + "/format", text, 0600)); };
  for (std::string_view text : {"layerfs store 3\n", "layerfs store 0\n"}) {
    write(text);
    for (StoreAccess access : {StoreAccess::kRead, StoreAccess::kWrite})
      EXPECT_EQ(Store::open(root, access).error().kind, ErrorKind::kUnsupported) << text;
    EXPECT_EQ(value_of(read_file(root + "/format")), text);
  }
  for (std::string_view text :
       {"", "layerfs store", "layerfs store x\n", "layerfs store 1", "something else\n"}) {
    write(text);
    EXPECT_EQ(Store::open(root, StoreAccess::kRead).error().kind, ErrorKind::kCorrupt) << text;
  }
}

TEST(StoreOpenTest, AnOlderVersionIsRaisedByWhoMayWrite) {
  TemporaryDirectory directory;
  std::string root = directory.path() + "/store";
  ASSERT_DONE(Store::open(root, StoreAccess::kWrite));
  value_of(write_file_atomic(root + "/format", "layerfs store 1\n", 0600));
  ASSERT_DONE(Store::open(root, StoreAccess::kRead));
  EXPECT_EQ(value_of(read_file(root + "/format")), "layerfs store 1\n");
  ASSERT_DONE(Store::open(root, StoreAccess::kWrite));
  EXPECT_EQ(value_of(read_file(root + "/format")), "layerfs store 2\n");
}

TEST(ChainIdTest, IsThatOfTheImageSpecification) {
  EXPECT_TRUE(chain_id({}).is_zero());
  Digest a = sha256("a");
  Digest b = sha256("b");
  EXPECT_EQ(chain_id({a}), a);
  EXPECT_EQ(chain_id({a, b}), sha256(a.str() + " " + b.str()));
  EXPECT_EQ(chain_id({a, b, a}), sha256(chain_id({a, b}).str() + " " + a.str()));
}

class StoreWholeTest : public StoreTest {
 protected:
  ContainerRecord container_of(const ImageRecord& image, const std::string& name, char id) {
    ContainerRecord container;
    container.id = std::string(64, id);
    container.name = name;
    container.image_reference = image.reference;
    container.image_manifest = image.manifest;
    container.image_config = image.config;
    container.chain = image.chain;
    container.layers = diff_ids_of(image);
    return container;
  }
};

TEST_F(StoreWholeTest, BlobsAreVerifiedBothWays) {
  std::string bytes = "{\"a\": 1}";
  EXPECT_EQ(store_->put_blob(sha256("other"), bytes).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(store_->get_blob(sha256(bytes)).error().code, ENOENT);
  ASSERT_DONE(store_->put_blob(sha256(bytes), bytes));
  ASSERT_DONE(store_->put_blob(sha256(bytes), bytes));
  EXPECT_EQ(value_of(store_->get_blob(sha256(bytes))), bytes);
  std::filesystem::resize_file(path("blobs/sha256/" + sha256(bytes).hex()), 3);
  EXPECT_EQ(store_->get_blob(sha256(bytes)).error().kind, ErrorKind::kCorrupt);
  ASSERT_DONE(store_->put_blob(sha256(bytes), bytes));  // heals it
  EXPECT_EQ(value_of(store_->get_blob(sha256(bytes))), bytes);
}

TEST_F(StoreWholeTest, ImagesAreFoundListedAndRemoved) {
  auto image = value_of(write_image(*store_, "localhost/a:1", {{{"f", "x"}}}));
  EXPECT_EQ(value_of(store_->find_image("localhost/a:1")), image);
  EXPECT_FALSE(value_of(store_->find_image("localhost/a")).has_value());
  EXPECT_FALSE(value_of(store_->find_image("")).has_value());
  reopen();
  EXPECT_EQ(value_of(store_->list_images()), std::vector<ImageRecord>{image});
  ASSERT_DONE(store_->remove_image("localhost/a:1"));
  EXPECT_EQ(store_->remove_image("localhost/a:1").error().code, ENOENT);
  EXPECT_TRUE(value_of(store_->list_images()).empty());
}

TEST_F(StoreWholeTest, AnImageThatLosesItsNameIsKeptWithoutOne) {
  auto first = value_of(write_image(*store_, "localhost/a:1", {{{"f", "one"}}}));
  auto second = value_of(write_image(*store_, "localhost/a:1", {{{"f", "two"}}}));
  auto images = value_of(store_->list_images());
  ASSERT_EQ(images.size(), 2U);
  first.reference.clear();
  EXPECT_EQ(images[0], first);
  EXPECT_EQ(images[1], second);
  // Given a name again, it is not listed twice.
  first.reference = "localhost/b:1";
  ASSERT_DONE(store_->put_image(first));
  EXPECT_EQ(value_of(store_->list_images()).size(), 2U);
  // One that has another name does not become nameless.
  ASSERT_DONE(store_->put_image([&] {
    auto renamed = second;
    renamed.reference = "localhost/b:1";
    return renamed;
  }()));
  images = value_of(store_->list_images());
  ASSERT_EQ(images.size(), 3U);
  EXPECT_EQ(images[0].reference, "");
  ASSERT_DONE(store_->remove_image(first.manifest.str()));
  EXPECT_EQ(value_of(store_->list_images()).size(), 2U);
}

TEST_F(StoreWholeTest, TheSameImageAgainChangesNothing) {
  value_of(write_image(*store_, "localhost/a:1", {{{"f", "one"}}}));
  auto files = files_of(root_);
  value_of(write_image(*store_, "localhost/a:1", {{{"f", "one"}}}));
  EXPECT_EQ(value_of(store_->list_images()).size(), 1U);
  EXPECT_EQ(files_of(root_), files);
}

TEST_F(StoreWholeTest, ContainersHaveUniqueNamesAndIds) {
  auto image = value_of(write_image(*store_, "localhost/a:1", {{{"f", "x"}}}));
  auto container = container_of(image, "one", 'a');
  ASSERT_DONE(store_->add_container(container));
  EXPECT_TRUE(std::filesystem::is_directory(store_->container_dir(container.id)));
  EXPECT_EQ(store_->add_container(container_of(image, "one", 'b')).error().code, EEXIST);
  EXPECT_FALSE(std::filesystem::exists(store_->container_dir(std::string(64, 'b'))));
  EXPECT_EQ(store_->add_container(container_of(image, "other", 'a')).error().code, EEXIST);
  EXPECT_TRUE(std::filesystem::exists(store_->container_dir(container.id)));
  auto bad = container_of(image, "x", 'a');
  bad.id = "../../etc";
  EXPECT_EQ(store_->add_container(bad).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(store_->remove_container("../../etc").error().code, ENOENT);
  EXPECT_EQ(value_of(store_->find_container("one")), container);
  EXPECT_EQ(value_of(store_->find_container(container.id)), container);
  EXPECT_EQ(value_of(store_->find_container("aaa")), container);
  EXPECT_FALSE(value_of(store_->find_container("ab")).has_value());
  EXPECT_FALSE(value_of(store_->find_container("")).has_value());
  EXPECT_EQ(value_of(store_->list_containers()), std::vector<ContainerRecord>{container});
}

TEST_F(StoreWholeTest, AnIdPrefixMustBeUnique) {
  auto image = value_of(write_image(*store_, "localhost/a:1", {{{"f", "x"}}}));
  auto first = container_of(image, "one", 'a');
  auto second = container_of(image, "two", 'a');
  second.id.back() = 'b';
  ASSERT_DONE(store_->add_container(first));
  ASSERT_DONE(store_->add_container(second));
  EXPECT_EQ(store_->find_container("aaaa").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(value_of(store_->find_container(first.id)), first);
  EXPECT_EQ(value_of(store_->find_container(second.id)), second);
}

TEST_F(StoreWholeTest, AContainerInUseIsNotRemoved) {
  auto image = value_of(write_image(*store_, "localhost/a:1", {{{"f", "x"}}}));
  auto container = container_of(image, "one", 'a');
  ASSERT_DONE(store_->add_container(container));
  std::string directory = store_->container_dir(container.id);
  {
    auto lock = value_of(open_file(directory + "/lock", O_RDWR | O_CREAT, 0600));
    ASSERT_TRUE(value_of(lock_file(lock.get(), LockMode::kExclusive, LockWait::kNo)));
    EXPECT_EQ(store_->remove_container(container.id).error().code, EBUSY);
    EXPECT_TRUE(value_of(store_->find_container("one")).has_value());
  }
  ASSERT_DONE(store_->remove_container(container.id));
  EXPECT_FALSE(std::filesystem::exists(directory));
  EXPECT_FALSE(value_of(store_->find_container("one")).has_value());
  EXPECT_EQ(store_->remove_container(container.id).error().code, ENOENT);
  EXPECT_TRUE(std::filesystem::is_empty(path("tmp")));
}

TEST_F(StoreWholeTest, TreesAreBuiltOnceAndFoundAgain) {
  auto image = value_of(write_image(*store_, "localhost/a:1",
                                    {{{"a", "one"}, {"b", "two"}}, {{"a", "three"}, {"d/c", "four"}}}));
  auto diff_ids = diff_ids_of(image);
  auto tree = value_of(store_->get_tree(diff_ids));
  auto a = value_of(tree->find_entry(kRootIno, "a"));
  ASSERT_TRUE(a);
  EXPECT_EQ(a->node.object, sha256("three"));
  auto d = value_of(tree->find_entry(kRootIno, "d"));
  EXPECT_EQ(read_blob(value_of(store_->objects().open(value_of(tree->find_entry(d->ino, "c"))->node.object))),
            "four");
  auto written = std::filesystem::last_write_time(path("trees/" + image.chain.hex()));
  auto again = value_of(store_->get_tree(diff_ids));
  EXPECT_EQ(std::filesystem::last_write_time(path("trees/" + image.chain.hex())), written);
  EXPECT_EQ(value_of(again->find_entry(kRootIno, "a"))->ino, a->ino);
  EXPECT_EQ(problems_of(*store_), "");
  EXPECT_EQ(value_of(store_->check(CheckDepth::kStructure)).trees_checked, 1U);
}

TEST_F(StoreWholeTest, ATreeHasTheSameNumbersHoweverItIsBuilt) {
  std::vector<std::vector<TestFile>> layers = {
      {{"a", "1"}, {"b/c", "2"}, {"last", "3"}}, {{"a", "4"}, {"x", "5"}}, {{"y/z", "6"}}};
  auto image = value_of(write_image(*store_, "localhost/a:1", layers));
  auto diff_ids = diff_ids_of(image);
  ASSERT_DONE(store_->get_tree(diff_ids));
  std::string in_one_go = value_of(read_file(path("trees/" + image.chain.hex())));
  std::filesystem::remove(path("trees/" + image.chain.hex()));
  ASSERT_DONE(store_->get_tree({diff_ids[0]}));
  ASSERT_DONE(store_->get_tree({diff_ids[0], diff_ids[1]}));
  ASSERT_DONE(store_->get_tree(diff_ids));
  EXPECT_TRUE(value_of(read_file(path("trees/" + image.chain.hex()))) == in_one_go);
}

TEST_F(StoreWholeTest, ADamagedTreeIsBuiltAgain) {
  auto image = value_of(write_image(*store_, "localhost/a:1", {{{"a", "one"}}}));
  ASSERT_DONE(store_->get_tree(diff_ids_of(image)));
  std::string file = path("trees/" + image.chain.hex());
  std::string whole = value_of(read_file(file));
  std::filesystem::resize_file(file, whole.size() / 2);
  EXPECT_NE(problems_of(*store_), "");
  auto tree = value_of(store_->get_tree(diff_ids_of(image)));
  EXPECT_TRUE(value_of(tree->find_entry(kRootIno, "a")).has_value());
  EXPECT_TRUE(value_of(read_file(file)) == whole);
}

TEST_F(StoreWholeTest, AReaderBuildsInMemoryWhatItMayNotWrite) {
  auto image = value_of(write_image(*store_, "localhost/a:1", {{{"a", "one"}}}));
  auto reader = value_of(Store::open(root_, StoreAccess::kRead));
  auto tree = value_of(reader->get_tree(diff_ids_of(image)));
  EXPECT_TRUE(value_of(tree->find_entry(kRootIno, "a")).has_value());
  EXPECT_TRUE(std::filesystem::is_empty(path("trees")));
}

TEST_F(StoreWholeTest, ATreeOfNoLayersIsARoot) {
  auto tree = value_of(store_->get_tree({}));
  EXPECT_TRUE(value_of(tree->find_node(kRootIno)).has_value());
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(StoreWholeTest, AMissingLayerIsNamed) {
  auto tree = store_->get_tree({sha256("nothing")});
  ASSERT_FALSE(tree);
  EXPECT_EQ(tree.error().code, ENOENT);
}

TEST_F(StoreWholeTest, UsageCountsLogicalAndDeduplicatedBytes) {
  std::string shared(1000, 's');
  value_of(write_image(*store_, "localhost/a:1", {{{"a", shared}, {"b", shared}}, {{"c", "cc"}}}));
  value_of(
      write_image(*store_, "localhost/b:1", {{{"a", shared}, {"b", shared}}, {{"d", shared}, {"e", "ee"}}}));
  auto renamed = *value_of(store_->find_image("localhost/b:1"));
  renamed.reference = "localhost/another-name:1";
  ASSERT_DONE(store_->put_image(renamed));
  auto usage = value_of(store_->usage());
  EXPECT_EQ(usage.images, 2U);
  EXPECT_EQ(usage.logical_bytes, 2002U + 3002U);
  EXPECT_EQ(usage.layer_dedup_bytes, 2000U + 2U + 1002U);
  EXPECT_EQ(usage.file_dedup_bytes, 1000U + 2U + 2U);
  EXPECT_GE(usage.object_disk_bytes, 1004U);
  EXPECT_GT(usage.metadata_disk_bytes, 0U);
}

TEST_F(StoreWholeTest, DamagedCatalogRowsAreCorruptNotSkipped) {
  value_of(write_image(*store_, "localhost/a:1", {{{"a", "one"}}}));
  store_.reset();
  {
    EnvOptions options;
    options.databases = {"objects", "images", "containers", "container_names"};
    auto env = value_of(Env::open(path("catalog"), options));
    auto txn = value_of(WriteTxn::begin(*env));
    value_of(txn.put(Dbi{1}, "localhost/a:1", "rubbish"));
    value_of(txn.put(Dbi{0}, std::string(32, 'd'), "short"));
    value_of(txn.put(Dbi{2}, std::string(64, 'c'), "rubbish"));
    value_of(txn.commit());
  }
  reopen();
  EXPECT_EQ(store_->list_images().error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(store_->find_image("localhost/a:1").error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(store_->list_containers().error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(store_->find_container("ccc").error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(store_->gc().error().kind, ErrorKind::kCorrupt);
  std::string problems = problems_of(*store_);
  EXPECT_NE(problems.find("catalog"), std::string::npos);
}

TEST(ReferenceTest, ShortNamesGetAHostAndATag) {
  EXPECT_EQ(value_of(normalise_reference("busybox")), "localhost/busybox:latest");
  EXPECT_EQ(value_of(normalise_reference("a/b:1.0")), "localhost/a/b:1.0");
  EXPECT_EQ(value_of(normalise_reference("docker.io/library/x")), "docker.io/library/x:latest");
  EXPECT_EQ(value_of(normalise_reference("localhost:5000/x:y")), "localhost:5000/x:y");
  EXPECT_EQ(value_of(normalise_reference("[::1]:5000/x")), "[::1]:5000/x:latest");
  EXPECT_EQ(value_of(normalise_reference("Host.Example/x")), "Host.Example/x:latest");
  std::string digest = sha256("x").str();
  EXPECT_EQ(value_of(normalise_reference("x@" + digest)), "localhost/x@" + digest);
  EXPECT_EQ(value_of(normalise_reference("x:1@" + digest)), "localhost/x:1@" + digest);
}

TEST(ReferenceTest, WhatIsNoReferenceIsRefused) {
  for (const std::string& text : {std::string(""),
                                  std::string("Upper"),
                                  std::string("a//b"),
                                  std::string("/a"),
                                  std::string("a/"),
                                  std::string("a:"),
                                  std::string("a:b:c"),
                                  std::string("a:-x"),
                                  std::string("a b"),
                                  std::string("a@sha256:12"),
                                  std::string("a..b"),
                                  std::string("a___b"),
                                  std::string("-a"),
                                  std::string("a-"),
                                  std::string("host.x:port/a"),
                                  std::string("a.b/"),
                                  std::string("a:") + std::string(129, 't'),
                                  std::string(300, 'n'),
                                  std::string("../x"),
                                  std::string("a\nb")})
    EXPECT_FALSE(normalise_reference(text)) << text;
}

class NameTest : public StoreWholeTest {};

TEST_F(NameTest, ImagesAreFoundAsAUserNamesThem) {
  auto local = value_of(write_image(*store_, "localhost/tool:latest", {{{"a", "1"}}}));
  auto docker = value_of(write_image(*store_, "docker.io/library/debian:latest", {{{"a", "2"}}}));
  auto other = value_of(write_image(*store_, "docker.io/some/app:3", {{{"a", "3"}}}));
  for (const std::string& text :
       {std::string("tool"), std::string("tool:latest"), std::string("localhost/tool"),
        std::string("localhost/tool:latest"), local.config.hex(), local.config.str(),
        local.config.hex().substr(0, 12), local.manifest.str()})
    EXPECT_EQ(value_of(get_image_by_name(*store_, text)), local) << text;
  EXPECT_EQ(value_of(get_image_by_name(*store_, "debian")), docker);
  EXPECT_EQ(value_of(get_image_by_name(*store_, "some/app:3")), other);
  for (const std::string& text : {std::string("tool:other"), std::string("nothing"), std::string(""),
                                  std::string("quay.io/tool"), std::string(64, '0')})
    EXPECT_EQ(get_image_by_name(*store_, text).error().code, ENOENT) << text;
}

TEST_F(NameTest, AnIdAndADigestAreNoNames) {
  auto image = value_of(write_image(*store_, "localhost/tool:1", {{{"a", "1"}}}));
  auto other = value_of(write_image(*store_, "localhost/other:1", {{{"a", "2"}}}));
  for (const std::string& name :
       {"localhost/sha256:" + image.config.hex(), "localhost/" + image.config.hex() + ":latest",
        "docker.io/library/" + image.manifest.hex() + ":1", std::string("localhost/sha512:1"),
        "localhost/tool@" + image.manifest.str(), "localhost/tool:1@" + image.manifest.str()}) {
    other.reference = name;
    EXPECT_EQ(store_->put_image(other).error().kind, ErrorKind::kInvalid) << name;
  }
  for (const std::string& name :
       {"localhost/tool@" + other.manifest.str(), std::string("localhost/x/sha256:1"),
        "localhost/" + image.config.hex().substr(0, 12) + ":1"}) {
    other.reference = name;
    EXPECT_TRUE(store_->put_image(other).has_value()) << name;
  }
  EXPECT_EQ(value_of(get_image_by_name(*store_, image.config.str())), image);
  EXPECT_EQ(value_of(get_image_by_name(*store_, image.config.hex())), image);
  EXPECT_EQ(value_of(get_image_by_name(*store_, "tool@" + image.manifest.str())), image);
  EXPECT_EQ(value_of(get_image_by_name(*store_, "tool@" + other.manifest.str())).config, other.config);
  EXPECT_FALSE(get_image_by_name(*store_, "other@" + image.manifest.str()));
}

TEST_F(NameTest, ManyNamesArePutAtOnce) {
  auto first = value_of(write_image(*store_, "localhost/first:1", {{{"a", "1"}}}));
  auto second = value_of(write_image(*store_, "localhost/second:1", {{{"a", "2"}}}));
  std::vector<std::string> names;
  for (int i = 0; i < 20'000; ++i) names.push_back("localhost/n" + std::to_string(i) + ":1");
  ASSERT_DONE(store_->put_image_names(first, names));
  ASSERT_DONE(store_->put_image_names(second, names));
  ASSERT_DONE(store_->put_image_names(second, {"localhost/first:1"}));
  auto images = value_of(store_->list_images());
  ASSERT_EQ(images.size(), 20'003U);
  EXPECT_EQ(images[0].reference, "");
  EXPECT_EQ(images[0].manifest, first.manifest);
}

TEST_F(NameTest, AnIdThatTwoImagesBeginWithIsRefused) {
  std::vector<ImageRecord> images;
  std::string prefix;
  // By the pigeonhole principle two of 17 ids share their first digit.
  for (int i = 0; i < 17; ++i)
    images.push_back(value_of(
        write_image(*store_, "localhost/i" + std::to_string(i) + ":1", {{{"a", std::to_string(i)}}})));
  for (const auto& a : images)
    for (const auto& b : images)
      if (a.config != b.config && a.config.hex()[0] == b.config.hex()[0])
        prefix = a.config.hex().substr(0, 1);
  EXPECT_EQ(get_image_by_name(*store_, prefix).error().kind, ErrorKind::kInvalid);
}

}  // namespace
}  // namespace layerfs::store
