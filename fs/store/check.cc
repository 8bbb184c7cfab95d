// SPDX-License-Identifier: Apache-2.0
// Checking a store: every reference leads somewhere, sizes agree, trees are consistent; with kContents every
// content, and every layer put together from its pieces, has its digest. Bytes without a name are no problem:
// they are gc's.
#include <fcntl.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "fs/base/bytes.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"
#include "fs/store/disk_layers.h"
#include "fs/store/disk_store.h"

namespace layerfs::store {

namespace {

using tree::Ino;
using tree::Node;
using tree::NodeKind;

class Checker {
 public:
  Checker(const Layout& layout, const CatalogDb& catalog, const DiskObjects& objects, CheckDepth depth)
      : layout_(layout), catalog_(catalog), objects_(objects), depth_(depth) {}

  /// Other processes may import, commit and remove meanwhile; only gc has to wait. The lists of images and
  /// containers are read once, at the beginning: what those need was there before they were, and stays until gc.
  CheckReport run() {
    auto roots = catalog_.list_roots();
    if (!roots) problem("catalog", roots.error());
    check_objects();
    check_layers();
    if (roots) {
      check_images(roots->images);
      check_containers(roots->containers);
    }
    check_trees();
    return std::move(report_);
  }

 private:
  void problem(std::string subject, std::string reason) {
    report_.problems.push_back({std::move(subject), std::move(reason)});
  }
  void problem(std::string subject, const Error& error) { problem(std::move(subject), error.message()); }

  void check_objects();
  void check_object(const ObjectRow& row);
  void check_layers();
  void check_layer(const Digest& diff_id);
  Result<void> check_records(const StoredLayer& layer);
  Result<void> check_frames(const StoredLayer& layer);
  void check_images(const std::vector<ImageRecord>& images);
  void check_containers(const std::vector<ContainerRecord>& containers);
  void check_trees();
  Result<void> check_tree(const TreeFile& tree, const std::string& subject);
  Result<void> check_directory(const TreeFile& tree, const std::string& subject, Ino dir);
  void check_blob(const std::string& subject, const Digest& digest);
  void check_reference(const std::string& subject, const Digest& object, std::uint64_t size);
  Result<void> read_object(const tree::Blob& blob, Sha256& hash);

  const Layout& layout_;
  const CatalogDb& catalog_;
  const DiskObjects& objects_;
  CheckDepth depth_;
  CheckReport report_;
  std::set<Digest> layers_;
  std::unordered_map<Ino, std::uint32_t>
      links_;  // of the tree at work: names; of directories, 2 and subdirectories
};

Result<void> Checker::read_object(const tree::Blob& blob, Sha256& hash) {
  std::string buffer(std::min<std::uint64_t>(blob.size, std::uint64_t{1} << 20), '\0');
  for (std::uint64_t done = 0; done < blob.size;) {
    auto piece = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), blob.size - done));
    LAYERFS_ASSIGN(std::size_t got,
                   pread_full(blob.file->get(), std::as_writable_bytes(std::span(buffer.data(), piece)),
                              blob.offset + done));
    if (got != piece) return corrupt_error("read object", {}, "it is cut short");
    hash.update(std::string_view(buffer.data(), piece));
    done += piece;
  }
  return {};
}

void Checker::check_object(const ObjectRow& row) {
  ++report_.objects_checked;
  std::string subject = "object " + row.digest.str();
  auto blob = objects_.open_at_location(row.digest, row.location);
  if (!blob) return problem(subject, blob.error());
  if (depth_ != CheckDepth::kContents) return;
  if (auto verified = DiskObjects::verify_at_location(row.digest, row.location, *blob); !verified)
    problem(subject, verified.error().kind == ErrorKind::kCorrupt ? verified.error().reason
                                                                  : verified.error().message());
}

void Checker::check_objects() {
  std::vector<ObjectRow> rows;
  auto listed = catalog_.for_each_object([&](const ObjectRow& row) {
    rows.push_back(row);
    return true;
  });
  if (!listed) problem("catalog", listed.error());
  // In the order in which the contents lie on disk, so that the disk is read forwards.
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
    return std::pair(a.location.pack, a.location.offset) < std::pair(b.location.pack, b.location.offset);
  });
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& here = rows[i].location;
    if (i > 0 && here.pack != 0 && rows[i - 1].location.pack == here.pack &&
        rows[i - 1].location.offset + rows[i - 1].location.size > here.offset)
      problem("object " + rows[i].digest.str(), "it overlaps another one in its pack");
    check_object(rows[i]);
  }
}

void Checker::check_reference(const std::string& subject, const Digest& object, std::uint64_t size) {
  auto location = catalog_.find_object(object);
  if (!location) return problem(subject, location.error());
  if (!*location) return problem(subject, "it needs object " + object.str() + ", which the store lacks");
  if ((*location)->size != size)
    problem(subject, "object " + object.str() + " has another size than it says");
}

Result<void> Checker::check_records(const StoredLayer& layer) {
  std::string subject = "layer " + layer.info().diff_id.str();
  return layer.for_each([&](const tree::LayerRecord& record) -> Result<void> {
    if (record.node.content == tree::ContentKind::kObject)
      check_reference(subject + " at '" + record.path + "'", record.node.object, record.node.size);
    return {};
  });
}

/// Puts the tar together again: its length, and with kContents its digest, are the layer's.
Result<void> Checker::check_frames(const StoredLayer& layer) {
  std::string subject = "layer " + layer.info().diff_id.str();
  Sha256 hash;
  std::uint64_t total = 0;
  bool whole = true;
  LAYERFS_TRY(layer.for_each_frame(
      [&](std::string_view raw, const Digest* object, std::uint64_t size) -> Result<void> {
        total += size;
        if (object == nullptr) {
          if (depth_ == CheckDepth::kContents) hash.update(raw);
          return {};
        }
        check_reference(subject, *object, size);
        if (depth_ != CheckDepth::kContents) return {};
        auto blob = objects_.open(*object);
        if (!blob || !read_object(*blob, hash)) whole = false;  // reported with the object
        return {};
      }));
  if (total != layer.info().tar_bytes) problem(subject, "its pieces do not add up to its length");
  if (depth_ == CheckDepth::kContents && whole && hash.finish() != layer.info().diff_id)
    problem(subject, "put together it has another digest");
  return {};
}

void Checker::check_layer(const Digest& diff_id) {
  ++report_.layers_checked;
  std::string subject = "layer " + diff_id.str();
  auto layer = open_layer(layout_, diff_id);
  if (!layer) return problem(subject, layer.error());
  layers_.insert(diff_id);
  if (auto checked = check_records(**layer); !checked) problem(subject, checked.error());
  if (auto checked = check_frames(**layer); !checked) problem(subject, checked.error());
}

void Checker::check_layers() {
  auto names = layout_.own().list(Layout::kLayers);
  if (!names) return problem("layers", names.error());
  for (const auto& name : *names) {
    if (auto diff_id = parse_hex_digest(name))
      check_layer(*diff_id);
    else
      problem("layers/" + name, "it is no layer");
  }
}

void Checker::check_blob(const std::string& subject, const Digest& digest) {
  auto bytes = layout_.own().read(layout_.blob(digest), std::size_t{64} << 20);
  if (!bytes) return problem(subject, bytes.error());
  if (sha256(*bytes) != digest) problem(subject, "blob " + digest.str() + " has other bytes");
}

void Checker::check_images(const std::vector<ImageRecord>& images) {
  for (const auto& image : images) {
    std::string subject = "image " + (image.reference.empty() ? image.config.str() : image.reference);
    check_blob(subject, image.manifest);
    check_blob(subject, image.config);
    std::vector<Digest> diff_ids;
    for (const auto& layer : image.layers) {
      diff_ids.push_back(layer.diff_id);
      if (!layers_.contains(layer.diff_id)) problem(subject, "it needs layer " + layer.diff_id.str());
    }
    if (chain_id(diff_ids) != image.chain) problem(subject, "its chain is not that of its layers");
  }
}

void Checker::check_containers(const std::vector<ContainerRecord>& containers) {
  for (const auto& container : containers) {
    std::string subject = "container " + container.name;
    auto directory = layout_.own().open(join_path(Layout::kContainers, container.id), O_PATH | O_DIRECTORY);
    if (!directory) {
      // The record goes before the directory: one that is gone by now was removed meanwhile.
      auto still = catalog_.find_container(container.id);
      if (still && !*still) continue;
      problem(subject,
              directory.error().code == ENOENT ? "its directory is missing" : directory.error().message());
    }
    for (const auto& layer : container.layers)
      if (!layers_.contains(layer)) problem(subject, "it needs layer " + layer.str());
    if (chain_id(container.layers) != container.chain)
      problem(subject, "its chain is not that of its layers");
  }
}

Result<void> Checker::check_directory(const TreeFile& tree, const std::string& subject, Ino dir) {
  Result<void> result;
  LAYERFS_TRY(tree.list_entries(dir, tree::kDirStart, [&](const tree::EntryView& entry) {
    auto own = tree.find_node(entry.ino);
    if (!own) return result = std::unexpected(own.error()), false;
    if (!*own || **own != entry.node || entry.cookie != tree::name_cookie(entry.name))
      problem(subject, "the entry '" + std::string(entry.name) + "' does not fit its node");
    bool is_directory = entry.node.kind == NodeKind::kDirectory;
    if (is_directory && entry.node.parent != dir) problem(subject, "a directory has another parent");
    ++links_[is_directory ? dir : entry.ino];
    return true;
  }));
  return result;
}

Result<void> Checker::check_tree(const TreeFile& tree, const std::string& subject) {
  links_.clear();
  LAYERFS_TRY(tree.for_each_node([&](Ino ino, const Node& node) -> Result<void> {
    if (node.content == tree::ContentKind::kObject) check_reference(subject, node.object, node.size);
    if (node.kind != NodeKind::kDirectory) return {};
    links_[ino] += 2;
    return check_directory(tree, subject, ino);
  }));
  return tree.for_each_node([&](Ino ino, const Node& node) -> Result<void> {
    auto counted = links_.find(ino);
    if (counted == links_.end() || counted->second != node.nlink)
      problem(subject, "inode " + std::to_string(to_number(ino)) + " has a wrong link count");
    return {};
  });
}

void Checker::check_trees() {
  auto names = layout_.own().list(Layout::kTrees);
  if (!names) return problem("trees", names.error());
  for (const auto& name : *names) {
    std::string subject = "tree " + name;
    auto chain = parse_hex_digest(name);
    if (!chain) {
      problem(subject, "it is no tree");
      continue;
    }
    ++report_.trees_checked;
    auto tree = TreeFile::open_in(layout_.own(), layout_.tree(*chain), *chain);
    if (!tree) {
      problem(subject, tree.error());
      continue;
    }
    if (auto checked = check_tree(**tree, subject); !checked) problem(subject, checked.error());
  }
}

}  // namespace

Result<CheckReport> DiskStore::check(CheckDepth depth) {
  Fd lease;  // so that nothing is collected under our eyes
  if (!read_only_disk_) {
    LAYERFS_ASSIGN(lease, layout_.lease());
  }
  return Checker(layout_, *catalog_, *objects_, depth).run();
}

}  // namespace layerfs::store
