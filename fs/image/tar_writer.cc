// SPDX-License-Identifier: Apache-2.0
#include "fs/image/tar_writer.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "fs/base/check.h"
#include "fs/base/utf8.h"
#include "fs/image/tar_format.h"
#include "fs/image/whiteout_name.h"

namespace layerfs::image {

namespace {

using PaxRecords = std::vector<std::pair<std::string, std::string>>;

template <std::size_t N>
void put_text(std::array<char, N>& field, std::string_view text) {
  std::memcpy(field.data(), text.data(), std::min(N, text.size()));
}

TarType type_of(const TarEntry& entry) {
  if (!entry.hard_link.empty()) return TarType::kHardLink;
  switch (entry.node.kind) {
    case tree::NodeKind::kRegular: return TarType::kRegular;
    case tree::NodeKind::kDirectory: return TarType::kDirectory;
    case tree::NodeKind::kSymlink: return TarType::kSymlink;
    case tree::NodeKind::kCharDevice: return TarType::kCharDevice;
    case tree::NodeKind::kBlockDevice: return TarType::kBlockDevice;
    case tree::NodeKind::kFifo: return TarType::kFifo;
    case tree::NodeKind::kSocket: break;
  }
  check_failed(__FILE__, __LINE__, "a kind that tar has");
}

/// Puts `name` into name and prefix; false where it does not fit.
bool put_name(TarHeader& header, std::string_view name) {
  if (name.size() <= header.name.size()) {
    put_text(header.name, name);
    return true;
  }
  // The cut furthest to the right leaves the shortest name; a directory's closing slash is no cut.
  std::size_t from = std::min(header.prefix.size(), name.size() - 2);
  std::size_t slash = name.rfind('/', from);
  if (slash == std::string_view::npos || slash == 0) return false;
  if (name.size() - slash - 1 > header.name.size()) return false;
  put_text(header.prefix, name.substr(0, slash));
  put_text(header.name, name.substr(slash + 1));
  return true;
}

template <std::size_t N>
void put_number_or_pax(std::array<char, N>& field, std::int64_t value, std::string_view key,
                       PaxRecords& pax) {
  if (fits_tar_octal(N, value)) {
    put_tar_number(field, value);
  } else {
    pax.emplace_back(key, std::to_string(value));
    put_tar_number(field, 0);
  }
}

void put_time(TarHeader& header, const tree::Time& time, PaxRecords& pax) {
  bool fits = fits_tar_octal(header.mtime.size(), time.seconds);
  put_tar_number(header.mtime, fits ? time.seconds : 0);
  if (!fits || time.nanoseconds != 0) pax.emplace_back("mtime", pax_time(time));
}

std::string xattr_key(std::string_view name) {
  std::string key = "SCHILY.xattr.";
  bool plain = name.find('=') == std::string_view::npos && name.find("%3D") == std::string_view::npos &&
               name.find("%25") == std::string_view::npos;
  if (plain) return key.append(name);
  for (char c : name) {
    if (c == '=') {
      key += "%3D";
    } else if (c == '%') {
      key += "%25";
    } else {
      key += c;
    }
  }
  return key;
}

/// The table of a sparse file: count, then offset and length of each run, padded to whole blocks.
std::string sparse_table(const std::vector<DataRun>& runs, std::uint64_t size) {
  std::vector<DataRun> all = runs;
  if (all.empty() || all.back().offset + all.back().length != size) all.push_back({size, 0});
  std::string table = fmt::format("{}\n", all.size());
  for (const auto& run : all) table += fmt::format("{}\n{}\n", run.offset, run.length);
  table.append(tar_padding(table.size()), '\0');
  return table;
}

/// Splits "a/b" into "a/" and "b".
std::pair<std::string_view, std::string_view> split_path(std::string_view path) {
  std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {{}, path};
  return {path.substr(0, slash + 1), path.substr(slash + 1)};
}

TarHeader blank_header(TarType type) {
  TarHeader header{};
  header.type = static_cast<char>(type);
  std::memcpy(header.magic.data(), "ustar", 6);
  std::memcpy(header.version.data(), "00", 2);
  for (auto* field : {&header.mode, &header.uid, &header.gid, &header.device_major, &header.device_minor})
    put_tar_number(*field, 0);
  put_tar_number(header.size, 0);
  put_tar_number(header.mtime, 0);
  return header;
}

void append_header(std::string& to, TarHeader& header) {
  put_tar_checksum(header);
  to.append(reinterpret_cast<const char*>(&header), sizeof header);
}

/// The pax entry that goes before an entry, named after it.
void append_pax(std::string& to, std::string_view path, PaxRecords records) {
  std::sort(records.begin(), records.end());
  bool binary = !std::all_of(records.begin(), records.end(), [](const auto& record) {
    return is_utf8(record.first) && (record.first.starts_with("SCHILY.xattr.") || is_utf8(record.second));
  });
  std::string body;
  if (binary) body += pax_record("hdrcharset", "BINARY");
  for (const auto& [key, value] : records) body += pax_record(key, value);

  TarHeader header = blank_header(TarType::kPaxHeader);
  std::string name = "PaxHeaders.0/";
  name += split_path(path).second;
  put_text(header.name, std::string_view(name).substr(0, header.name.size()));
  put_tar_number(header.mode, 0644);
  put_tar_number(header.size, static_cast<std::int64_t>(body.size()));
  append_header(to, header);
  to += body;
  to.append(tar_padding(body.size()), '\0');
}

}  // namespace

std::string pax_time(const tree::Time& time) {
  std::int64_t seconds = time.seconds;
  std::uint32_t nanoseconds = time.nanoseconds;
  std::string text;
  if (seconds < 0) {
    text = "-";
    // -1.75 is seconds -2 and 250,000,000 ns upwards from there.
    if (nanoseconds != 0) {
      seconds += 1;
      nanoseconds = 1'000'000'000 - nanoseconds;
    }
  }
  text += std::to_string(seconds < 0 ? 0 - static_cast<std::uint64_t>(seconds)
                                     : static_cast<std::uint64_t>(seconds));
  if (nanoseconds == 0) return text;
  std::string fraction = fmt::format(".{:09}", nanoseconds);
  fraction.erase(fraction.find_last_not_of('0') + 1);
  return text + fraction;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    std::size_t size = utf8_length(text);
    if (size == 0) return false;
    text.remove_prefix(size);
  }
  return true;
}

Result<void> TarWriter::end_content() {
  LAYERFS_CHECK(left_ == 0);
  if (padding_ == 0) return {};
  constexpr char kZeros[kTarBlock] = {};
  return sink_(std::string_view(kZeros, std::exchange(padding_, 0)));
}

Result<void> TarWriter::add(const TarEntry& entry) {
  LAYERFS_TRY(end_content());
  const tree::Node& node = entry.node;
  if (node.kind == tree::NodeKind::kSocket) return invalid_error("archive", entry.path, "a socket");

  TarType type = type_of(entry);
  TarHeader header = blank_header(type);
  PaxRecords pax;
  bool is_file = type == TarType::kRegular;
  bool is_sparse = is_file && !entry.runs.empty();
  std::string name = entry.path.empty() ? "." : entry.path;
  if (type == TarType::kDirectory) name += '/';

  std::string table;
  if (is_sparse) {
    table = sparse_table(entry.runs, node.size);
    auto [parent, last] = split_path(entry.path);
    pax.insert(pax.end(), {{"GNU.sparse.major", "1"},
                           {"GNU.sparse.minor", "0"},
                           {"GNU.sparse.name", name},
                           {"GNU.sparse.realsize", std::to_string(node.size)}});
    name = fmt::format("{}GNUSparseFile.0/{}", parent, last);
  }
  if (!put_name(header, name)) {
    put_text(header.name, name);
    // The sparse name above has the whole path already.
    if (!is_sparse) pax.emplace_back("path", name);
  }
  const std::string& link = entry.hard_link.empty() ? entry.symlink : entry.hard_link;
  put_text(header.link, link);
  if (link.size() > header.link.size()) pax.emplace_back("linkpath", link);

  put_tar_number(header.mode, node.mode & 07777);
  put_number_or_pax(header.uid, to_number(node.uid), "uid", pax);
  put_number_or_pax(header.gid, to_number(node.gid), "gid", pax);
  put_time(header, node.mtime, pax);
  if (type == TarType::kCharDevice || type == TarType::kBlockDevice) {
    put_tar_number(header.device_major, gnu_dev_major(node.rdev));
    put_tar_number(header.device_minor, gnu_dev_minor(node.rdev));
  }
  left_ = is_file ? node.size : 0;
  if (is_sparse) {
    left_ = 0;
    for (const auto& run : entry.runs) left_ += run.length;
  }
  std::uint64_t size = table.size() + left_;
  put_number_or_pax(header.size, static_cast<std::int64_t>(size), "size", pax);
  padding_ = tar_padding(size);
  // A hard link's inode was described with its first name.
  if (type != TarType::kHardLink)
    for (const auto& [key, value] : entry.xattrs) pax.emplace_back(xattr_key(key), value);

  std::string blocks;
  if (!pax.empty()) append_pax(blocks, entry.path, std::move(pax));
  append_header(blocks, header);
  return sink_(blocks += table);
}

Result<void> TarWriter::write(std::string_view bytes) {
  LAYERFS_CHECK(bytes.size() <= left_);
  left_ -= bytes.size();
  return sink_(bytes);
}

Result<void> TarWriter::add_whiteout(std::string_view path) {
  auto [parent, last] = split_path(path);
  TarEntry entry;
  entry.path.append(parent).append(kWhiteoutPrefix).append(last);
  entry.node.kind = tree::NodeKind::kRegular;
  return add(entry);
}

Result<void> TarWriter::finish() {
  LAYERFS_TRY(end_content());
  return sink_(std::string(2 * kTarBlock, '\0'));
}

}  // namespace layerfs::image
