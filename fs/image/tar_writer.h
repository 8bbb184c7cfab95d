// SPDX-License-Identifier: Apache-2.0
// TarWriter: canonical tar archives, for layers that commit makes and for exported trees. The same entries
// give the same bytes. One thread.
//
// (1) ustar headers, owners as numbers only, no device where the kind has none; a name above 100 bytes goes
//     into the prefix field where it can be cut at a slash.
// (2) A pax header stands before an entry only where ustar can't say it: a longer name or link, a large owner
//     or size, a time before 1970, after 2242 or with a fraction, xattrs, sparse files. Its records are in
//     the order hdrcharset (BINARY, where a record is no UTF-8), then bytewise by key.
// (3) Xattrs are SCHILY.xattr records with the value's bytes. A name with '=' can't be a pax key as it is: it
//     is written as GNU tar does, %3D for '=' and %25 for '%'; so is one that would read as such.
// (4) Sparse files are GNU's pax format 1.0; every run but the last is a multiple of 512 bytes at one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"
#include "fs/image/compress.h"
#include "fs/tree/layer_record.h"
#include "fs/tree/node.h"

namespace layerfs::image {

struct DataRun {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool operator==(const DataRun&) const = default;
};

struct TarEntry {
  std::string path;       ///< no '/' at its ends; the root: empty, written as "./"
  tree::Node node;        ///< kind, mode, uid, gid, mtime, rdev, size (of regular files)
  std::string symlink;    ///< target of a symlink
  std::string hard_link;  ///< not empty: the entry is another name of this path, with no content
  tree::XattrList xattrs;
  /// Regular files: where the data is, the rest being zeros; the content is the runs only. Empty: not sparse.
  std::vector<DataRun> runs;
};

class TarWriter {
 public:
  explicit TarWriter(ByteSink sink) : sink_(std::move(sink)) {}

  /// Writes the headers. For a regular file that is no hard link its bytes must follow by write(): node.size,
  /// or the lengths of `runs` together. Errors: kInvalid for a socket, and for what the sink says.
  Result<void> add(const TarEntry& entry);
  /// Content of the entry that was added last.
  Result<void> write(std::string_view bytes);
  /// The empty file `.wh.NAME` in the directory of `path` (OCI image-spec, layer.md, "Whiteouts"). Its time
  /// is 0.
  Result<void> add_whiteout(std::string_view path);
  /// The two zero blocks. Requires: the last entry's content is complete.
  Result<void> finish();

 private:
  Result<void> end_content();

  ByteSink sink_;
  std::uint64_t left_ = 0;     // content still to come
  std::uint64_t padding_ = 0;  // to write after it
};

/// A time as a pax record has it: "-1.5", "0.25"; no trailing zeros.
std::string pax_time(const tree::Time& time);
bool is_utf8(std::string_view text);

}  // namespace layerfs::image
