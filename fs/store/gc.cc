// SPDX-License-Identifier: Apache-2.0
// Garbage collection: mark what images, containers and used trees need, remove the rest.
//
// (1) It holds the store's lock exclusively: nobody is between writing something and naming it.
// (2) Names go before bytes (the catalog's row, then the file), so that a crash leaves bytes without a name,
//     which the next run removes.
// (3) Where it cannot tell what is needed (a damaged layer that an image has), it removes no object.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/store/disk_layers.h"
#include "fs/store/disk_store.h"
#include "fs/store/disk_usage.h"
#include "fs/store/pack_file.h"

namespace layerfs::store {

namespace {

/// A pack is rewritten when more than one byte in this many is of no use.
constexpr std::uint64_t kDeadShare = 4;

class Collector {
 public:
  Collector(const Layout& layout, CatalogDb& catalog, DiskObjects& objects)
      : layout_(layout), catalog_(catalog), objects_(objects) {}

  Result<GcReport> run() {
    LAYERFS_TRY(catalog_.free_dead_readers());
    LAYERFS_TRY(sweep_leftovers());  // first: on a full disk what follows needs room
    LAYERFS_TRY(catalog_.remove_nameless_images());
    LAYERFS_TRY(find_roots());
    LAYERFS_TRY(sweep_containers());
    LAYERFS_TRY(sweep_trees());
    LAYERFS_TRY(mark_layers());
    LAYERFS_TRY(sweep_layers());
    LAYERFS_TRY(sweep_blobs());
    LAYERFS_TRY(sweep_rows());
    LAYERFS_TRY(sweep_object_files());
    LAYERFS_TRY(sweep_packs());
    return report_;
  }

 private:
  Result<void> find_roots();
  Result<void> sweep_leftovers();
  Result<void> sweep_containers();
  Result<void> sweep_trees();
  Result<void> mark_tree(const Digest& chain);
  Result<void> mark_layers();
  Result<void> sweep_layers();
  Result<void> sweep_blobs();
  Result<void> sweep_rows();
  Result<void> sweep_object_files();
  Result<void> sweep_packs();
  Result<void> rewrite_pack(std::uint64_t id);
  Result<void> copy_objects(std::vector<ObjectRow>& rows, PackFile& pack);
  /// Removes a file or a tree and counts its blocks.
  Result<void> remove(const std::string& path);
  void mark(const Digest& object) {
    if (!object.is_zero()) needed_.push_back(object);
  }

  const Layout& layout_;
  CatalogDb& catalog_;
  DiskObjects& objects_;
  GcReport report_;
  std::set<Digest> layers_;
  std::set<Digest> chains_;
  std::set<Digest> blobs_;
  std::set<std::string> containers_;
  std::vector<Digest> needed_;  // objects; sorted once all are marked
  std::map<std::uint64_t, std::uint64_t> pack_live_bytes_;
};

Result<void> Collector::remove(const std::string& path) {
  std::uint64_t bytes = disk_bytes(layout_.own(), path);
  LAYERFS_TRY(layout_.own().remove(path));
  report_.bytes_freed += bytes;
  return {};
}

Result<void> Collector::find_roots() {
  LAYERFS_ASSIGN(CatalogRoots roots, catalog_.list_roots());
  for (const auto& image : roots.images) {
    chains_.insert(image.chain);
    blobs_.insert({image.manifest, image.config});
    for (const auto& layer : image.layers) {
      layers_.insert(layer.diff_id);
      blobs_.insert(layer.blob);
    }
  }
  for (const auto& container : roots.containers) {
    containers_.insert(container.id);
    chains_.insert(container.chain);
    blobs_.insert({container.image_manifest, container.image_config});
    layers_.insert(container.layers.begin(), container.layers.end());
  }
  return {};
}

Result<void> Collector::sweep_leftovers() {
  LAYERFS_ASSIGN(auto names, layout_.own().list(Layout::kTemporaries));
  for (const auto& name : names) {
    LAYERFS_TRY(remove(join_path(Layout::kTemporaries, name)));
    ++report_.leftovers_removed;
  }
  // The temporary of a creation of the store that was killed.
  LAYERFS_ASSIGN(names, layout_.own().list("."));
  for (const auto& name : names) {
    if (!name.starts_with("format.")) continue;
    LAYERFS_TRY(remove(name));
    ++report_.leftovers_removed;
  }
  return {};
}

Result<void> Collector::sweep_containers() {
  LAYERFS_ASSIGN(auto names, layout_.own().list(Layout::kContainers));
  for (const auto& name : names) {
    if (containers_.contains(name)) continue;
    std::string directory = join_path(Layout::kContainers, name);
    if (auto lock = layout_.own().open(join_path(directory, "lock"), O_RDWR)) {
      LAYERFS_ASSIGN(bool free, lock_file(lock->get(), LockMode::kExclusive, LockWait::kNo));
      if (!free) continue;
      LAYERFS_TRY(remove(directory));
    } else {
      LAYERFS_TRY(remove(directory));
    }
    ++report_.leftovers_removed;
  }
  return {};
}

Result<void> Collector::sweep_trees() {
  LAYERFS_ASSIGN(auto names, layout_.own().list(Layout::kTrees));
  for (const auto& name : names) {
    auto chain = parse_hex_digest(name);
    if (!chain || chains_.contains(*chain)) continue;
    LAYERFS_ASSIGN(Fd fd, layout_.own().open(layout_.tree(*chain), O_RDONLY));
    LAYERFS_ASSIGN(bool unused, lock_file(fd.get(), LockMode::kExclusive, LockWait::kNo));
    if (unused) {
      LAYERFS_TRY(remove(layout_.tree(*chain)));  // under the lock: an opener then sees that it has no name
      ++report_.trees_removed;
      continue;
    }
    // Mounted without a name: its objects are needed as long as it is, its layers are not.
    fd.reset();
    LAYERFS_TRY(mark_tree(*chain));
  }
  return {};
}

Result<void> Collector::mark_tree(const Digest& chain) {
  LAYERFS_ASSIGN(auto tree, TreeFile::open_in(layout_.own(), layout_.tree(chain), chain));
  return tree->for_each_node([&](tree::Ino, const tree::Node& node) -> Result<void> {
    mark(node.object);
    return {};
  });
}

Result<void> Collector::mark_layers() {
  for (const Digest& diff_id : layers_) {
    auto layer = open_layer(layout_, diff_id);
    if (!layer && layer.error().code == ENOENT && layer.error().kind == ErrorKind::kSystem) {
      log_warning("{}", layer.error().message());
      continue;
    }
    if (!layer) return std::unexpected(layer.error());
    LAYERFS_TRY((*layer)->for_each([&](const tree::LayerRecord& record) -> Result<void> {
      mark(record.node.object);
      return {};
    }));
    LAYERFS_TRY(
        (*layer)->for_each_frame([&](std::string_view, const Digest* object, std::uint64_t) -> Result<void> {
          if (object != nullptr) mark(*object);
          return {};
        }));
  }
  std::sort(needed_.begin(), needed_.end());
  needed_.erase(std::unique(needed_.begin(), needed_.end()), needed_.end());
  return {};
}

Result<void> Collector::sweep_layers() {
  LAYERFS_ASSIGN(auto names, layout_.own().list(Layout::kLayers));
  for (const auto& name : names) {
    auto diff_id = parse_hex_digest(name);
    if (!diff_id || layers_.contains(*diff_id)) continue;
    std::string doomed = layout_.make_temporary_name("layer");
    LAYERFS_TRY(layout_.own().rename(layout_.layer(*diff_id),
                                     doomed));  // never half a layer (layer_store.h, invariant 1)
    LAYERFS_TRY(remove(doomed));
    ++report_.layers_removed;
  }
  return {};
}

Result<void> Collector::sweep_blobs() {
  LAYERFS_ASSIGN(auto names, layout_.own().list(Layout::kBlobs));
  for (const auto& name : names) {
    auto digest = parse_hex_digest(name);
    if (!digest || blobs_.contains(*digest)) continue;
    LAYERFS_TRY(remove(layout_.blob(*digest)));
    ++report_.blobs_removed;
  }
  return {};
}

/// Both the catalog's rows and what is needed are sorted: one pass over the two.
Result<void> Collector::sweep_rows() {
  std::vector<Digest> dead;
  auto next = needed_.begin();
  LAYERFS_TRY(catalog_.for_each_object([&](const ObjectRow& row) {
    while (next != needed_.end() && *next < row.digest) ++next;
    if (next == needed_.end() || *next != row.digest)
      dead.push_back(row.digest);
    else if (row.location.pack != 0)
      pack_live_bytes_[row.location.pack] += row.location.size;
    return true;
  }));
  LAYERFS_TRY(catalog_.remove_objects(dead));
  report_.objects_removed += dead.size();
  return {};
}

Result<void> Collector::sweep_object_files() {
  LAYERFS_ASSIGN(auto directories, layout_.own().list(Layout::kObjects));
  for (const auto& directory : directories) {
    std::string path = join_path(Layout::kObjects, directory);
    LAYERFS_ASSIGN(auto names, layout_.own().list(path));
    for (const auto& name : names) {
      auto digest = parse_hex_digest(name);
      if (!digest) continue;
      LAYERFS_ASSIGN(auto location, catalog_.find_object(*digest));
      if (!location || location->pack != 0) LAYERFS_TRY(remove(join_path(path, name)));
    }
  }
  return {};
}

Result<void> Collector::sweep_packs() {
  LAYERFS_ASSIGN(auto names, layout_.own().list(Layout::kPacks));
  for (const auto& name : names) {
    auto id = parse_pack_name(name);
    if (!id) continue;
    auto live = pack_live_bytes_.find(*id);
    if (live == pack_live_bytes_.end()) {
      LAYERFS_TRY(remove(layout_.pack(*id)));
      objects_.forget_pack(*id);
      continue;
    }
    LAYERFS_ASSIGN(auto st, layout_.own().find_stat(layout_.pack(*id)));
    auto size = st ? static_cast<std::uint64_t>(st->st_size) : 0;
    std::uint64_t dead = size - std::min(size, kPackHeadSize + live->second);
    if (dead <= size / kDeadShare) continue;
    // Only space is at stake, and on a full disk there is none for the copy: never a reason to fail.
    if (auto rewritten = rewrite_pack(*id); !rewritten)
      log_warning("pack '{}' keeps unused bytes: {}", name, rewritten.error().message());
  }
  return {};
}

Result<void> Collector::copy_objects(std::vector<ObjectRow>& rows, PackFile& pack) {
  std::string buffer;
  for (auto& row : rows) {
    LAYERFS_ASSIGN(tree::Blob blob, objects_.open_at_location(row.digest, row.location));
    buffer.resize(blob.size);
    LAYERFS_ASSIGN(std::size_t got,
                   pread_full(blob.file->get(), std::as_writable_bytes(std::span(buffer)), blob.offset));
    if (got != blob.size) return corrupt_error("read object", row.digest.str(), "its pack is cut short");
    LAYERFS_ASSIGN(row.location.offset, pack.append(std::as_bytes(std::span(buffer))));
    row.location.pack = pack.id();
  }
  LAYERFS_TRY(pack.flush());
  return pack.sync();
}

/// The order is that of a writer: bytes on disk, name on disk, rows, and only then the old pack goes.
Result<void> Collector::rewrite_pack(std::uint64_t id) {
  std::vector<ObjectRow> rows;
  LAYERFS_TRY(catalog_.for_each_object([&](const ObjectRow& row) {
    if (row.location.pack == id) rows.push_back(row);
    return true;
  }));
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.location.offset < b.location.offset; });
  std::string temporary = layout_.make_temporary_name("pack");
  LAYERFS_ASSIGN(PackFile pack, PackFile::create(layout_.own(), temporary));
  auto copied = copy_objects(rows, pack);
  if (copied) copied = layout_.own().rename(temporary, layout_.pack(pack.id()));
  if (!copied) {
    LAYERFS_TRY(layout_.own().remove(temporary));
    return copied;
  }
  LAYERFS_TRY(layout_.own().sync(Layout::kPacks));
  LAYERFS_TRY(catalog_.move_objects(rows));
  std::uint64_t before = disk_bytes(layout_.own(), layout_.pack(id));
  LAYERFS_TRY(layout_.own().unlink(layout_.pack(id)));
  objects_.forget_pack(id);
  std::uint64_t after = disk_bytes(layout_.own(), layout_.pack(pack.id()));
  report_.bytes_freed += before > after ? before - after : 0;
  return {};
}

}  // namespace

Result<GcReport> DiskStore::gc(GcWait wait) {
  if (access_ != StoreAccess::kWrite) return system_error(EROFS, "collect garbage", layout_.root());
  LAYERFS_ASSIGN(Fd lock, layout_.own().open(Layout::kLock, O_RDWR | O_CREAT, 0600));
  LAYERFS_ASSIGN(bool alone, lock_file(lock.get(), LockMode::kExclusive,
                                       wait == GcWait::kYes ? LockWait::kYes : LockWait::kNo));
  if (!alone) {
    auto busy = system_error(EBUSY, "collect garbage", layout_.root());
    busy.error().reason = "something is being written to the store";
    return busy;
  }
  return Collector(layout_, *catalog_, *objects_).run();
}

}  // namespace layerfs::store
