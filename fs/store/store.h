// SPDX-License-Identifier: Apache-2.0
// Store: one store directory, opened. Owns the catalog environment and hands out objects, layers, trees,
// blobs and container directories. FORMAT.md says what is on disk and which order makes it crash-safe.
//
// (1) Writers (import, commit, tag, rmi, container changes) hold `lock` shared; gc holds it exclusively, so
//     gc never sees what is written but not yet named.
// (2) A mounted tree is held by a shared flock on its file (TreeFile), which gc respects.
// (3) A Store must not cross fork(2): open it in the process that uses it.
// (4) A method may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/digest.h"
#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/store/catalog.h"
#include "fs/store/layer_store.h"
#include "fs/store/object_store.h"
#include "fs/tree/merge.h"
#include "fs/tree/tree_source.h"

namespace layerfs::store {

enum class StoreAccess : std::uint8_t { kRead, kWrite };

/// $LAYERFS_ROOT, else /var/lib/layerfs for root, else $XDG_DATA_HOME/layerfs, else ~/.local/share/layerfs.
std::string default_store_root();

/// Holds the store's lock shared while something is written (invariant 1).
class WriteLease {
 public:
  explicit WriteLease(Fd lock) : lock_(std::move(lock)) {}

 private:
  Fd lock_;
};

/// chainID of a list of diffIDs, lowest first (OCI image-spec, config.md, "Layer ChainID"). Zero for none.
Digest chain_id(const std::vector<Digest>& diff_ids);
/// Those of all its beginnings, from one layer to all of them.
std::vector<Digest> chain_ids(const std::vector<Digest>& diff_ids);

struct UsageReport {
  std::uint64_t images = 0;               ///< distinct ones, however many names they have
  std::uint64_t logical_bytes = 0;        ///< contents of every image's layers, counted for each image
  std::uint64_t layer_dedup_bytes = 0;    ///< contents of each distinct layer once
  std::uint64_t file_dedup_bytes = 0;     ///< each distinct content once
  std::uint64_t object_disk_bytes = 0;    ///< blocks of objects/ and packs/
  std::uint64_t metadata_disk_bytes = 0;  ///< blocks of catalog, trees, layers, blobs
  std::uint64_t container_disk_bytes = 0;
};

struct GcReport {
  std::uint64_t objects_removed = 0;
  std::uint64_t layers_removed = 0;
  std::uint64_t trees_removed = 0;
  std::uint64_t blobs_removed = 0;
  std::uint64_t leftovers_removed = 0;  ///< temporaries and packs of writers that died
  std::uint64_t bytes_freed = 0;
};

enum class GcWait : std::uint8_t { kNo, kYes };

struct CheckProblem {
  std::string subject;
  std::string reason;
};
struct CheckReport {
  std::uint64_t objects_checked = 0;
  std::uint64_t layers_checked = 0;
  std::uint64_t trees_checked = 0;
  std::vector<CheckProblem> problems;
};
enum class CheckDepth : std::uint8_t {
  kStructure,  ///< every reference leads somewhere, sizes agree: reads metadata only
  kContents,   ///< and every content and every layer put together has its digest: reads the whole store
};

/// A blob of a layer that went to a registry.
struct SentBlob {
  std::string form;  ///< how the blob was made of the layer, in the words of who made it; no blank in it
  Digest digest;
  std::uint64_t size = 0;
  std::string repository;  ///< "host/path" that has it
  bool operator==(const SentBlob&) const = default;
};
/// Most that are remembered of a layer; the oldest go.
inline constexpr std::size_t kMaxSentBlobs = 32;

class Store {
 public:
  /// Opens, and with kWrite creates, the store. Errors: ENOENT with kRead where there is none; kCorrupt,
  /// kUnsupported (a newer format), EACCES...
  static Result<std::unique_ptr<Store>> open(const std::string& root, StoreAccess access);
  virtual ~Store() = default;

  virtual const std::string& root() const = 0;
  /// Waits for a running gc.
  virtual Result<WriteLease> lease() = 0;

  virtual ObjectStore& objects() = 0;

  virtual Result<std::unique_ptr<LayerWriter>> make_layer_writer() = 0;
  virtual Result<std::shared_ptr<const StoredLayer>> get_layer(const Digest& diff_id) = 0;
  virtual Result<bool> has_layer(const Digest& diff_id) = 0;

  /// What was remembered of the layer, oldest first. A hint: a registry may have lost the blob, and what cannot be
  /// read counts as nothing. Errors: those of reading.
  virtual Result<std::vector<SentBlob>> sent_blobs(const Digest& diff_id) = 0;
  /// Of two processes that remember at once one may be forgotten. Errors: EROFS; ENOENT where the layer is gone.
  virtual Result<void> remember_sent_blob(const Digest& diff_id, const SentBlob& blob) = 0;

  /// The merged tree of a chain; built from the layers (with the longest prefix that has a tree as its base,
  /// so that inode numbers stay) and published where it is not there. Holds the flock of invariant 2.
  /// `limits` hold where it is built. Errors: those of tree::merge_layer, naming the layer.
  virtual Result<std::shared_ptr<const tree::TreeSource>> get_tree(const std::vector<Digest>& diff_ids,
                                                                   const tree::MergeLimits& limits) = 0;
  Result<std::shared_ptr<const tree::TreeSource>> get_tree(const std::vector<Digest>& diff_ids) {
    return get_tree(diff_ids, {});
  }

  /// Manifests and configs. get_blob verifies the digest. Errors: ENOENT, kCorrupt.
  virtual Result<void> put_blob(const Digest& digest, std::string_view bytes) = 0;
  virtual Result<std::string> get_blob(const Digest& digest) = 0;

  /// Names an image; an older image of that reference loses the name (and is kept, nameless, until gc).
  /// Errors: kInvalid for a name that check_image_name() refuses.
  Result<void> put_image(const ImageRecord& image);
  /// The same with several names, whatever image.reference says: all of them or none.
  virtual Result<void> put_image_names(const ImageRecord& image,
                                       const std::vector<std::string>& references) = 0;
  /// By exact reference.
  virtual Result<std::optional<ImageRecord>> find_image(std::string_view reference) = 0;
  virtual Result<std::vector<ImageRecord>> list_images() = 0;
  /// Takes the name away; a nameless image goes by the digest of its manifest. Errors: ENOENT.
  virtual Result<void> remove_image(std::string_view reference) = 0;

  /// Makes containers/<id> and its record. Errors: EEXIST (kSystem) where the name is taken.
  virtual Result<void> add_container(const ContainerRecord& container) = 0;
  /// By name, by id or by a prefix of the id that only one has.
  virtual Result<std::optional<ContainerRecord>> find_container(std::string_view name_or_id) = 0;
  virtual Result<std::vector<ContainerRecord>> list_containers() = 0;
  /// Removes record and directory. Errors: ENOENT; EBUSY while its lock file is held.
  virtual Result<void> remove_container(std::string_view id) = 0;
  virtual std::string container_dir(std::string_view id) const = 0;

  virtual Result<UsageReport> usage() = 0;
  /// Removes what no image and no container needs. Errors: EBUSY where writers are at work and `wait` is kNo.
  /// Requires: with kYes, the calling thread holds no WriteLease.
  virtual Result<GcReport> gc(GcWait wait) = 0;
  Result<GcReport> gc() { return gc(GcWait::kNo); }
  virtual Result<CheckReport> check(CheckDepth depth) = 0;
};

/// "busybox" -> "localhost/busybox:latest": the default tag, and the default registry of Podman for short
/// names of local images. Errors: kInvalid where it is no reference (OCI distribution-spec, "Pulling
/// manifests").
Result<std::string> normalise_reference(std::string_view text);
/// Whether an image with this manifest may have the (normalised) name: a digest in it must be the manifest's,
/// and no name may read as an image's id (64 hex digits, or `sha256` as the whole name). Errors: kInvalid.
Result<void> check_image_name(std::string_view reference, const Digest& manifest);
/// The image that a user means. What is written as a whole id or digest (64 hex digits, with or without
/// `sha256:`) is one and never a name; then: exact, normalised (a short name also below docker.io/library and
/// docker.io), or a unique prefix of the config's hex. `NAME@DIGEST` is an image of that name whose manifest
/// has that digest. Errors: ENOENT naming it; kInvalid where a prefix is not unique.
Result<ImageRecord> get_image_by_name(Store& store, std::string_view text);

}  // namespace layerfs::store
