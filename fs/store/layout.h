// SPDX-License-Identifier: Apache-2.0
// Where everything lies below the store's root (FORMAT.md, "Directories"), and names for temporaries.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fs/base/digest.h"
#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::store {

/// The version that this code writes, in the file `format`.
inline constexpr unsigned kStoreVersion = 1;

class Layout {
 public:
  explicit Layout(std::string root);

  const std::string& root() const { return root_; }
  std::string path(std::string_view name) const;
  std::string lock() const { return path("lock"); }
  std::string catalog() const { return path("catalog"); }
  std::string objects() const { return path("objects"); }
  std::string packs() const { return path("packs"); }
  std::string layers() const { return path("layers"); }
  std::string trees() const { return path("trees"); }
  std::string blobs() const { return path("blobs/sha256"); }
  std::string containers() const { return path("containers"); }
  std::string temporaries() const { return path("tmp"); }

  /// objects/ab/<hex>.
  std::string object(const Digest& digest) const;
  /// objects/ab, two hex digits.
  std::string object_dir(const Digest& digest) const;
  std::string pack(std::uint64_t id) const;
  std::string layer(const Digest& diff_id) const;
  std::string tree(const Digest& chain) const;
  std::string blob(const Digest& digest) const;

  /// Creates the directories and the format file where they are missing. Errors: EACCES, ENOSPC...
  Result<void> create() const;
  /// Errors: ENOENT where there is no store; kCorrupt; kUnsupported (a newer version).
  Result<void> check_format() const;
  /// The store's lock, shared (store.h, invariant 1). Waits for gc.
  Result<Fd> lease() const;
  /// A path in tmp/ that nobody else uses; nothing is created.
  std::string make_temporary_name(std::string_view what) const;

 private:
  std::string root_;
};

/// A random number that is not 0.
std::uint64_t random_id();
/// 16 hex digits of a pack's id, and back.
std::string pack_name(std::uint64_t id);
std::optional<std::uint64_t> parse_pack_name(std::string_view name);

}  // namespace layerfs::store
