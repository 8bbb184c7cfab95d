// SPDX-License-Identifier: Apache-2.0
#include "fs/image/tar_sparse.h"

#include <algorithm>

#include "fs/image/tar_format.h"
#include "fs/image/tar_pax.h"

namespace layerfs::image {

namespace {

constexpr std::size_t kGnuField = 12;

std::unexpected<Error> bad_map() {
  return std::unexpected(Error{ErrorKind::kInvalid, EINVAL, {}, "invalid sparse map"});
}

Result<void> add_extent(SparseMap& map, std::int64_t offset, std::int64_t size) {
  if (offset < 0 || size < 0) return bad_map();
  if (map.size() >= kMaxSparseExtents)
    return std::unexpected(
        Error{ErrorKind::kInvalid, EINVAL, {}, "a sparse map of more than a million extents"});
  map.push_back({static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(size)});
  return {};
}

Result<void> add_text_pair(SparseMap& map, std::string_view offset, std::string_view size) {
  auto first = parse_decimal(offset);
  auto second = parse_decimal(size);
  if (!first || !second) return bad_map();
  return add_extent(map, *first, *second);
}

}  // namespace

Result<void> add_gnu_pairs(std::string_view at, std::size_t pairs, SparseMap& map) {
  for (std::size_t i = 0; i < pairs; ++i) {
    std::string_view pair = at.substr(i * 2 * kGnuField, 2 * kGnuField);
    if (pair[0] == '\0' || pair[kGnuField] == '\0') break;  // as GNU tar ends the list
    auto offset = parse_tar_number(pair.substr(0, kGnuField));
    auto size = parse_tar_number(pair.substr(kGnuField));
    if (!offset || !size) return bad_map();
    LAYERFS_TRY(add_extent(map, *offset, *size));
  }
  return {};
}

Result<SparseMap> parse_sparse_pairs(const std::vector<std::string>& numbers) {
  if (numbers.size() % 2 != 0) return bad_map();
  SparseMap map;
  for (std::size_t i = 0; i < numbers.size(); i += 2)
    LAYERFS_TRY(add_text_pair(map, numbers[i], numbers[i + 1]));
  return map;
}

Result<SparseMap> parse_sparse_list(std::string_view list) {
  SparseMap map;
  while (!list.empty()) {
    std::size_t middle = list.find(',');
    if (middle == std::string_view::npos) return bad_map();
    std::size_t end = std::min(list.find(',', middle + 1), list.size());
    LAYERFS_TRY(add_text_pair(map, list.substr(0, middle), list.substr(middle + 1, end - middle - 1)));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return map;
}

Result<bool> SparseMapParser::add_block(std::string_view block) {
  while (!complete()) {
    std::size_t newline = block.find('\n');
    if (newline == std::string_view::npos) {
      digits_ += block;
      if (digits_.size() > 32) return bad_map();
      return false;
    }
    digits_ += block.substr(0, newline);
    block.remove_prefix(newline + 1);
    auto number = digits_.size() > 32 ? std::nullopt : parse_decimal(digits_);
    digits_.clear();
    if (!number) return bad_map();
    LAYERFS_TRY(add_number(static_cast<std::uint64_t>(*number)));
  }
  return true;
}

Result<void> SparseMapParser::add_number(std::uint64_t number) {
  if (!counted_) {
    if (number > kMaxSparseExtents)
      return std::unexpected(
          Error{ErrorKind::kInvalid, EINVAL, {}, "a sparse map of more than a million extents"});
    counted_ = true;
    expected_ = number;
  } else if (!has_offset_) {
    has_offset_ = true;
    offset_ = number;
  } else {
    has_offset_ = false;
    map_.push_back({offset_, number});
  }
  return {};
}

Result<void> finish_sparse_map(SparseMap& map, std::uint64_t file_size, std::uint64_t stored_size) {
  std::uint64_t end = 0;
  std::uint64_t stored = 0;
  for (const auto& extent : map) {
    if (extent.offset < end || extent.offset > file_size || extent.size > file_size - extent.offset)
      return bad_map();
    end = extent.offset + extent.size;
    stored += extent.size;
  }
  if (stored != stored_size) return bad_map();
  std::erase_if(map, [](const SparseExtent& extent) { return extent.size == 0; });
  return {};
}

}  // namespace layerfs::image
