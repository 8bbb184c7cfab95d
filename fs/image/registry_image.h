// SPDX-License-Identifier: Apache-2.0
// RegistryImages: images of registries as sources of an import (fs/registry/REGISTRY.md). Documents are fetched and
// verified when an image is opened; of layers only those that the import asks for, from front to back, once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "fs/image/image_source.h"
#include "fs/registry/registry_client.h"
#include "fs/store/store.h"

namespace layerfs::image {

/// No index that is fetched may have more entries.
inline constexpr std::size_t kMaxIndexEntries = 10'000;

class RegistryImages {
 public:
  static Result<std::unique_ptr<RegistryImages>> make(registry::AccessOptions options);
  ~RegistryImages();

  /// What may be meant by a name that a user wrote. Errors: kInvalid.
  Result<registry::ResolvedName> resolve(std::string_view name) const;
  /// The image of `reference`, from the first of its endpoints that has it; what a mirror answered instead is a
  /// warning. The layers read from *this, which must outlive them. Errors: those of the last endpoint.
  Result<SourceImage> open_image(const registry::Reference& reference, const ImageChoice& choice);
  /// The image of `reference` that is in the store, where the registry's is the same; nullopt: another, or none.
  Result<std::optional<store::ImageRecord>> find_current(store::Store& store,
                                                         const registry::Reference& reference,
                                                         const ImageChoice& choice);
  /// Every tag of the repository.
  Result<std::vector<std::string>> list_tags(const registry::Reference& reference);

 private:
  explicit RegistryImages(std::unique_ptr<registry::Registries> registries);
  template <class Function>
  auto at_first_endpoint(const registry::Reference& reference, const Function& function)
      -> decltype(function(std::declval<registry::Repository&>()));

  std::unique_ptr<registry::Registries> registries_;
  std::vector<std::unique_ptr<registry::Repository>> repositories_;  ///< that layers read from
};

/// The image named `reference` in the store: by its name, or by the digest in it, be that of the manifest or of an index
/// that it was chosen of. No registry is asked.
Result<std::optional<store::ImageRecord>> find_stored(store::Store& store,
                                                      const registry::Reference& reference,
                                                      const Platform& platform);

}  // namespace layerfs::image
