// SPDX-License-Identifier: Apache-2.0
#include "fs/store/xxh64.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "fs/base/bytes.h"

namespace layerfs::store {

namespace {

constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87ULL;
constexpr std::uint64_t kPrime2 = 0xC2B2AE3D27D4EB4FULL;
constexpr std::uint64_t kPrime3 = 0x165667B19E3779F9ULL;
constexpr std::uint64_t kPrime4 = 0x85EBCA77C2B2AE63ULL;
constexpr std::uint64_t kPrime5 = 0x27D4EB2F165667C5ULL;

std::uint64_t round(std::uint64_t lane, std::uint64_t input) {
  return std::rotl(lane + input * kPrime2, 31) * kPrime1;
}
std::uint64_t merge(std::uint64_t hash, std::uint64_t lane) {
  return (hash ^ round(0, lane)) * kPrime1 + kPrime4;
}
void mix_stripe(std::array<std::uint64_t, 4>& lanes, const char* stripe) {
  for (std::size_t i = 0; i < 4; ++i) lanes[i] = round(lanes[i], load_le<std::uint64_t>(stripe + 8 * i));
}

}  // namespace

void Xxh64::update(std::string_view data) {
  total_ += data.size();
  if (pending_size_ > 0) {
    std::size_t taken = std::min(data.size(), pending_.size() - pending_size_);
    std::memcpy(pending_.data() + pending_size_, data.data(), taken);
    pending_size_ += taken;
    data.remove_prefix(taken);
    if (pending_size_ < pending_.size()) return;
    mix_stripe(lanes_, pending_.data());
    pending_size_ = 0;
  }
  auto lanes = lanes_;
  while (data.size() >= 32) {
    mix_stripe(lanes, data.data());
    data.remove_prefix(32);
  }
  lanes_ = lanes;
  if (!data.empty()) std::memcpy(pending_.data(), data.data(), data.size());
  pending_size_ = data.size();
}

std::uint64_t Xxh64::value() const {
  std::uint64_t hash = kPrime5;
  if (total_ >= 32) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) +
           std::rotl(lanes_[3], 18);
    for (std::uint64_t lane : lanes_) hash = merge(hash, lane);
  }
  hash += total_;
  std::string_view rest(pending_.data(), pending_size_);
  for (; rest.size() >= 8; rest.remove_prefix(8))
    hash = std::rotl(hash ^ round(0, load_le<std::uint64_t>(rest.data())), 27) * kPrime1 + kPrime4;
  if (rest.size() >= 4) {
    hash = std::rotl(hash ^ load_le<std::uint32_t>(rest.data()) * kPrime1, 23) * kPrime2 + kPrime3;
    rest.remove_prefix(4);
  }
  for (char byte : rest) hash = std::rotl(hash ^ static_cast<unsigned char>(byte) * kPrime5, 11) * kPrime1;
  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

std::uint64_t xxh64(std::string_view data) {
  Xxh64 hash;
  hash.update(data);
  return hash.value();
}

}  // namespace layerfs::store
