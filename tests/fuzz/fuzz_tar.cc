// SPDX-License-Identifier: Apache-2.0
// Fuzz target: bytes as a layer, compressed or not. Whatever they are, the reader comes to an end, and what
// it handed out as raw bytes and contents is a prefix of the archive (all of it where there was no error).
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/image/decompress.h"
#include "fs/image/whiteout_name.h"
#include "tests/image/tar_reading.h"

namespace {

using namespace layerfs;
using namespace layerfs::image;

constexpr std::size_t kMost = std::size_t{4} << 20;

/// Plain bytes of the input; empty where it does not decompress.
std::string plain_bytes(std::string_view input) {
  MemorySource memory(input);
  PeekSource source(memory);
  auto head = source.peek();
  auto codec = head ? detect_codec(*head) : Result<Codec>(std::unexpected(head.error()));
  if (!codec) return {};
  auto stream = make_decompressor(source, *codec);
  if (!stream) return {};
  std::string plain;
  std::vector<std::byte> buffer(64 * 1024);
  while (plain.size() < kMost) {
    auto got = (*stream)->read(buffer);
    if (!got || *got == 0) break;
    plain += as_text(std::span(buffer).first(*got));
  }
  return plain;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string tar = plain_bytes({reinterpret_cast<const char*>(data), size});
  for (TarEnd end : {TarEnd::kMarked, TarEnd::kAnywhere}) {
    Reading reading = read_tar(tar, 1 + tar.size() % 1021, end, kMost);
    if (!std::string_view(tar).starts_with(reading.stream)) std::abort();
    if (reading.error.empty() && reading.stream.size() != tar.size()) std::abort();
    for (const auto& read : reading.members) {
      auto path = parse_entry_path(read.member.name);
      if (path && path->path.size() > 4095) std::abort();
      shown_name(read.member.name);
    }
  }
  return 0;
}
