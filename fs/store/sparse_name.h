// SPDX-License-Identifier: Apache-2.0
// SparseNamer: the digest by which a content with long holes goes in the store (FORMAT.md, "Objects"). The
// SHA-256 of 300 GB of zeros takes minutes, though nothing is read; this one costs what the data costs.
//
// (1) It is a function of the content alone: zeros count the same whether they are given as data or as holes.
// (2) It is no SHA-256 of any bytes that somebody could choose: the bits of one are turned, so that to find a
//     plain content of the same name is to find two inputs of SHA-256 whose digests are each other's
//     complement.
// (3) One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "fs/base/digest.h"
#include "fs/base/result.h"
#include "fs/base/sha256.h"

namespace layerfs::store {

/// Zeros are left out by whole aligned units of this many bytes: a block of most file systems.
inline constexpr std::size_t kSparseUnit = 4096;

class SparseNamer {
 public:
  SparseNamer();
  void data(std::span<const std::byte> bytes);
  /// `length` zeros, in no time.
  void hole(std::uint64_t length);
  /// Of everything so far. Called once.
  Digest finish();

 private:
  void end_unit();

  Sha256 hash_;
  std::uint64_t size_ = 0;
  std::string unit_;  // what has come of the one that `size_` is in
};

/// The name of a file's content; its holes are passed over (SEEK_DATA). Requires: `size` is the file's.
Result<Digest> sparse_name_of(int fd, std::uint64_t size);

}  // namespace layerfs::store
