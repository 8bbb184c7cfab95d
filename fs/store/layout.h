// SPDX-License-Identifier: Apache-2.0
// Where everything lies below the store's root (FORMAT.md, "Directories"), and names for temporaries.
//
// (1) The root is the user's to name, through links too. Everything below it is ours: it is reached by own()
//     only, by names relative to the root, and never through a link (fs/base/own_files.h); absolute() is for
//     LMDB, for messages and for who opens a container's directory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fs/base/digest.h"
#include "fs/base/fd.h"
#include "fs/base/own_files.h"
#include "fs/base/result.h"

namespace layerfs::store {

/// The version that this code writes, in the file `format`, and the oldest that it reads.
inline constexpr unsigned kStoreVersion = 2;
inline constexpr unsigned kOldestStoreVersion = 1;

class Layout {
 public:
  explicit Layout(std::string root) : root_(std::move(root)) {}

  const std::string& root() const { return root_; }
  /// Requires: open_root().
  const OwnDirectory& own() const { return own_; }
  std::string absolute(std::string_view name) const;

  static constexpr const char* kFormat = "format";
  static constexpr const char* kLock = "lock";
  static constexpr const char* kCatalog = "catalog";
  static constexpr const char* kObjects = "objects";
  static constexpr const char* kPacks = "packs";
  static constexpr const char* kLayers = "layers";
  static constexpr const char* kTrees = "trees";
  static constexpr const char* kBlobs = "blobs/sha256";
  static constexpr const char* kContainers = "containers";
  static constexpr const char* kTemporaries = "tmp";

  /// objects/ab/<hex>.
  std::string object(const Digest& digest) const;
  /// objects/ab, two hex digits.
  std::string object_dir(const Digest& digest) const;
  std::string pack(std::uint64_t id) const;
  std::string layer(const Digest& diff_id) const;
  std::string tree(const Digest& chain) const;
  std::string blob(const Digest& digest) const;

  /// Opens the root. Errors: ENOENT where it is missing.
  Result<void> open_root();
  /// True where the store was created to the end. Requires: open_root().
  Result<bool> is_created() const;
  /// Creates the root and the directories where they are missing, and opens the root. Errors: EACCES,
  /// ENOSPC...; ENOTDIR where something else, a link too, lies in the place of one.
  Result<void> make_directories();
  /// Writes the file `format`. Requires: everything else is there.
  Result<void> finish_creation() const;
  /// Errors: ENOENT, ELOOP, ENOTDIR naming a directory that is missing, or is none.
  Result<void> check_directories() const;
  /// The store's version. Errors: ENOENT where there is no store; kCorrupt; kUnsupported (a newer version).
  Result<unsigned> read_version() const;
  /// A store of an older version gets this one: what is written from now on an older layerfs would take for
  /// damage.
  Result<void> raise_version() const;
  /// The store's lock, shared (store.h, invariant 1). Waits for gc.
  Result<Fd> lease() const;
  /// A path in tmp/ that nobody else uses; nothing is created.
  std::string make_temporary_name(std::string_view what) const;
  /// Removes a file that make_temporary_name() named, after something else failed: a failure of this is only
  /// logged.
  void drop_temporary(const std::string& path) const;

 private:
  Result<void> write_version() const;

  std::string root_;
  OwnDirectory own_;
};

/// 16 hex digits of a pack's id, and back.
std::string pack_name(std::uint64_t id);
std::optional<std::uint64_t> parse_pack_name(std::string_view name);

}  // namespace layerfs::store
