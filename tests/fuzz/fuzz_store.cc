// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the store's decoders (fs/store/FORMAT.md). The first byte chooses one, the rest is its input.
// What is read and written again reads as the same.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/store/block_file.h"
#include "fs/store/format.h"
#include "fs/store/layer_frames.h"
#include "fs/store/tree_file.h"
#include "fs/store/tree_format.h"

namespace {

using namespace layerfs;
using namespace layerfs::store;

void require(bool condition) {
  if (!condition) std::abort();
}

void try_records(std::string_view bytes) {
  tree::LayerRecord record;
  tree::LayerRecord again;
  for (ByteReader from(bytes); !from.rest().empty();) {
    if (!take_record(from, record)) return;
    std::string written;
    append_record(written, record);
    ByteReader back(written);
    require(take_record(back, again) && back.done());
    require(again.path == record.path && again.target == record.target && again.node == record.node &&
            again.xattrs == record.xattrs);
  }
}

void try_frames(std::string_view bytes) {
  Frame frame;
  std::size_t total = 0;
  for (ByteReader from(bytes); !from.rest().empty();) {
    if (!take_frame(from, frame)) return;
    total += frame.raw.size();
    require(total <= bytes.size());
  }
}

void try_node(std::string_view bytes) {
  ByteReader from(bytes);
  tree::Node node;
  if (!take_node(from, node)) return;
  std::string written;
  append_node(written, node);
  ByteReader back(written);
  tree::Node again;
  require(take_node(back, again) && back.done() && again == node);
}

void try_catalog(std::string_view bytes) {
  if (auto image = decode_image(bytes)) require(decode_image(encode_image(*image)) == image);
  if (auto container = decode_container(bytes))
    require(decode_container(encode_container(*container)) == container);
  if (auto location = decode_location(bytes)) require(encode_location(*location) == bytes);
}

void try_tree_ends(std::string_view bytes) {
  std::uint32_t version = 0;
  if (auto trailer = tree_format::decode_trailer(bytes, version); trailer && version == tree_format::kVersion)
    require(tree_format::encode_trailer(*trailer).size() == bytes.size());
  if (auto head = tree_format::decode_head(bytes))
    require(tree_format::decode_head(tree_format::encode_head(*head)).has_value());
}

/// The bytes as a file without a name; the path leads to it while the descriptor is open.
struct MemoryFile {
  explicit MemoryFile(std::string_view bytes) : fd(::memfd_create("fuzz", MFD_CLOEXEC)) {
    require(write_full(fd.get(), as_bytes(bytes)).has_value());
    path = "/proc/self/fd/" + std::to_string(fd.get());
  }
  Fd fd;
  std::string path;
};

void try_block_file(std::string_view bytes) {
  MemoryFile file(bytes);
  for (auto kind : {BlockFileKind::kRecords, BlockFileKind::kFraming}) {
    auto blocks = BlockFile::open(file.path, kind);
    if (!blocks) continue;
    BlockReader reader(*blocks);
    for (;;) {
      auto block = reader.next();
      if (!block || block->empty()) break;
      try_records(*block);
      try_frames(*block);
    }
  }
}

/// Only what has the right checksum gets to LMDB, so this is the way up to there. A tree must have a name.
void try_tree(std::string_view bytes) {
  std::string path = (std::filesystem::temp_directory_path() / "layerfs-fuzz-XXXXXX").string();
  Fd fd(::mkostemp(path.data(), O_CLOEXEC));
  require(static_cast<bool>(fd) && write_full(fd.get(), as_bytes(bytes)).has_value());
  if (auto tree = TreeFile::open(path, Digest{}))
    require((*tree)
                ->list_entries(tree::kRootIno, tree::kDirStart, [](const tree::EntryView&) { return true; })
                .has_value());
  require(::unlink(path.c_str()) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'r': try_records(bytes); break;
    case 'f': try_frames(bytes); break;
    case 'n': try_node(bytes); break;
    case 'c': try_catalog(bytes); break;
    case 't': try_tree_ends(bytes); break;
    case 'b': try_block_file(bytes); break;
    case 'T': {
      try_tree(bytes);
      break;
    }
    default: break;
  }
  return 0;
}
