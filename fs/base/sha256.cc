// SPDX-License-Identifier: Apache-2.0
#include "fs/base/sha256.h"

#include <openssl/evp.h>

#include <new>

#include "fs/base/check.h"

namespace layerfs {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
  void begin() {
    if (context == nullptr) throw std::bad_alloc();
    LAYERFS_CHECK(EVP_DigestInit_ex2(context, EVP_sha256(), nullptr) == 1);
  }
};

Sha256::Sha256() : state_(std::make_unique<State>()) { state_->begin(); }
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> data) {
  LAYERFS_CHECK(EVP_DigestUpdate(state_->context, data.data(), data.size()) == 1);
}

Digest Sha256::finish() {
  Digest digest;
  LAYERFS_CHECK(EVP_DigestFinal_ex(state_->context, digest.bytes.data(), nullptr) == 1);
  state_->begin();
  return digest;
}

Digest sha256(std::span<const std::byte> data) {
  thread_local Sha256 hasher;
  hasher.update(data);
  return hasher.finish();
}

Digest sha256(std::string_view data) { return sha256(std::as_bytes(std::span(data))); }

}  // namespace layerfs
