// SPDX-License-Identifier: Apache-2.0
#include "fs/image/registry_image.h"

#include <fmt/format.h>

#include <algorithm>

#include "fs/base/log.h"

namespace layerfs::image {

namespace {

using registry::Endpoint;
using registry::ManifestDocument;
using registry::Reference;
using registry::Repository;

/// A blob that arrives.
class BlobSource final : public ByteSource {
 public:
  explicit BlobSource(std::unique_ptr<registry::BlobReader> reader) : reader_(std::move(reader)) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override { return reader_->read(buffer); }

 private:
  std::unique_ptr<registry::BlobReader> reader_;
};

/// What a document is: as its own mediaType says, else as the registry says, else by its looks.
Result<std::string> document_type(const ManifestDocument& document) {
  std::string said = media_type_of(document.bytes);
  std::string type = said.empty() ? document.media_type : said;
  if (type == "application/vnd.docker.distribution.manifest.v1+json" ||
      type == "application/vnd.docker.distribution.manifest.v1+prettyjws" ||
      document.media_type == "application/vnd.docker.distribution.manifest.v1+prettyjws")
    return unsupported_error("manifest type", type,
                             "Docker's schema 1, which no registry should serve any more");
  if (is_index_type(type) || is_manifest_type(type)) return type;
  // Some registries call everything application/json; an OCI document need not say its type.
  if (said.empty() && parse_index(document.bytes)) return std::string(media::kOciIndex);
  if (said.empty() && parse_manifest(document.bytes)) return std::string(media::kOciManifest);
  return unsupported_error("manifest type", type, "neither an image manifest nor an index");
}

Result<ImageIndex> get_index(std::string_view bytes, const Digest& digest) {
  auto index = parse_index(bytes);
  if (!index) return with_context(index.error(), "index", digest.str());
  if (index->manifests.size() > kMaxIndexEntries)
    return invalid_error("index", digest.str(), fmt::format("more than {} entries", kMaxIndexEntries));
  return index;
}

/// The manifest that the store would take of the index with this digest, where the store remembers that.
std::optional<Digest> find_chosen(store::Store& store, const Digest& digest, const Platform& platform) {
  auto bytes = store.get_blob(digest);
  if (!bytes) return std::nullopt;
  auto index = parse_index(*bytes);
  if (!index) return std::nullopt;
  auto chosen = choose_for_platform(index->manifests, platform);
  if (!chosen) return std::nullopt;
  return is_index_type(chosen->media_type) ? find_chosen(store, chosen->digest, platform) : chosen->digest;
}

bool is_missing(const Error& error) { return error.kind == ErrorKind::kSystem && error.code == ENOENT; }

/// Nobody else is asked after this one.
bool ends_trying(const Error& error) {
  return error.kind == ErrorKind::kSystem &&
         (error.code == EINTR || error.code == ECANCELED || error.code == ENOSPC);
}

}  // namespace

RegistryImages::RegistryImages(std::unique_ptr<registry::Registries> registries)
    : registries_(std::move(registries)) {}
RegistryImages::~RegistryImages() = default;

Result<std::unique_ptr<RegistryImages>> RegistryImages::make(registry::AccessOptions options) {
  LAYERFS_ASSIGN(auto registries, registry::Registries::make(std::move(options)));
  return std::unique_ptr<RegistryImages>(new RegistryImages(std::move(registries)));
}

Result<registry::ResolvedName> RegistryImages::resolve(std::string_view name) const {
  return registry::resolve_name(registries_->conf(), name);
}

template <class Function>
auto RegistryImages::at_first_endpoint(const Reference& reference, const Function& function)
    -> decltype(function(std::declval<Repository&>())) {
  LAYERFS_ASSIGN(auto endpoints, registry::find_endpoints(registries_->conf(), reference));
  for (std::size_t i = 0;; ++i) {
    LAYERFS_ASSIGN(auto repository, registries_->open(endpoints[i]));
    auto done = function(*repository);
    if (!done && i + 1 < endpoints.size() && !ends_trying(done.error())) {
      log_warning("mirror '{}': {}; the next one is asked", endpoints[i].reference.name(),
                  done.error().message());
      continue;
    }
    repositories_.push_back(std::move(repository));
    return done;
  }
}

Result<SourceImage> RegistryImages::open_image(const Reference& reference, const ImageChoice& choice) {
  // By the name that the image will have, whichever mirror sends it.
  LAYERFS_TRY(registry::check_policy(registries_->policy(), reference));
  auto opened = at_first_endpoint(reference, [&](Repository& repository) -> Result<SourceImage> {
    LAYERFS_ASSIGN(ManifestDocument document, repository.get_manifest(repository.reference().version()));
    std::vector<std::pair<Digest, std::string>> indexes;
    ImageDocuments documents;
    documents.get = [&](const Descriptor& descriptor) -> Result<std::string> {
      bool is_manifest = is_index_type(descriptor.media_type) || is_manifest_type(descriptor.media_type);
      if (!is_manifest) return repository.get_blob(descriptor.digest, descriptor.size, kMaxDocument);
      LAYERFS_ASSIGN(ManifestDocument fetched, repository.get_manifest(descriptor.digest.str()));
      if (fetched.bytes.size() != descriptor.size)
        return corrupt_error("verify manifest", descriptor.digest.str(),
                             fmt::format("{} bytes instead of {}", fetched.bytes.size(), descriptor.size));
      if (is_index_type(descriptor.media_type)) indexes.emplace_back(descriptor.digest, fetched.bytes);
      return std::move(fetched.bytes);
    };
    documents.open_layer = [&](const Descriptor& descriptor, const Digest& diff_id) -> Result<SourceLayer> {
      SourceLayer layer;
      layer.diff_id = diff_id;
      layer.size = descriptor.size;
      layer.descriptor = descriptor;
      layer.is_near = false;
      layer.open = [&repository, digest = descriptor.digest, size = descriptor.size](
                       const std::atomic<bool>& stop) -> Result<std::unique_ptr<ByteSource>> {
        return std::make_unique<BlobSource>(repository.open_blob(digest, size, &stop));
      };
      return layer;
    };
    LAYERFS_ASSIGN(std::string type, document_type(document));
    if (is_index_type(type)) {
      LAYERFS_ASSIGN(ImageIndex index, get_index(document.bytes, document.digest));
      LAYERFS_ASSIGN(Descriptor chosen, choose_for_platform(index.manifests, choice.platform));
      LAYERFS_ASSIGN(chosen, follow_indexes(documents, std::move(chosen), choice.platform));
      indexes.emplace_back(document.digest, std::move(document.bytes));
      LAYERFS_ASSIGN(document.bytes, documents.get(chosen));
      document.digest = chosen.digest;
    }
    LAYERFS_ASSIGN(SourceImage image,
                   read_image(documents, std::move(document.bytes), document.digest, choice));
    image.indexes = std::move(indexes);
    return image;
  });
  if (!opened) return std::unexpected(opened.error());
  // A digest in the name may be an index's: the image is named by that of its own manifest.
  Reference named = reference;
  if (!named.digest.empty()) named.digest = opened->manifest_digest.str();
  opened->names = {named.str()};
  return opened;
}

Result<std::optional<store::ImageRecord>> RegistryImages::find_current(store::Store& store,
                                                                       const Reference& reference,
                                                                       const ImageChoice& choice) {
  // What a digest names does not change.
  if (!reference.digest.empty()) return find_stored(store, reference, choice.platform);
  LAYERFS_ASSIGN(auto stored, store.find_image(reference.str()));
  if (!stored) return std::nullopt;
  LAYERFS_ASSIGN(auto digest, at_first_endpoint(reference, [](Repository& repository) {
                   return repository.find_digest(repository.reference().version());
                 }));
  if (!digest) return std::nullopt;
  if (*digest == stored->manifest || find_chosen(store, *digest, choice.platform) == stored->manifest)
    return stored;
  return std::nullopt;
}

Result<std::vector<std::string>> RegistryImages::list_tags(const Reference& reference) {
  return at_first_endpoint(reference, [](Repository& repository) { return repository.list_tags(); });
}

Result<std::optional<store::ImageRecord>> find_stored(store::Store& store, const Reference& reference,
                                                      const Platform& platform) {
  auto find = [&](const Reference& name) -> Result<std::optional<store::ImageRecord>> {
    auto image = store::get_image_by_name(store, name.str());
    if (image) return std::optional(std::move(*image));
    if (is_missing(image.error())) return std::nullopt;
    return std::unexpected(image.error());
  };
  LAYERFS_ASSIGN(auto found, find(reference));
  if (found || reference.digest.empty()) return found;
  LAYERFS_ASSIGN(Digest digest, parse_digest(reference.digest));
  auto chosen = find_chosen(store, digest, platform);
  if (!chosen) return std::nullopt;
  Reference named = reference;
  named.digest = chosen->str();
  return find(named);
}

}  // namespace layerfs::image
